"""The aggregators by name: the weighted mean, and rules for hostile cars."""

from fedsim.aggregation.base import Aggregator, Gathering
from fedsim.aggregation.mean import Mean
from fedsim.aggregation.robust import GeometricMedian, Krum, Median, MultiKrum, TrimmedMean

AGGREGATORS: dict[str, type[Aggregator]] = {
    aggregator.name: aggregator for aggregator in (Mean, Median, TrimmedMean, Krum, MultiKrum, GeometricMedian)}

__all__ = ["AGGREGATORS", "Aggregator", "Gathering", "GeometricMedian", "Krum", "Mean", "Median", "MultiKrum",
           "TrimmedMean"]
