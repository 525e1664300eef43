"""The three kinds of place a drive can go through: what stands along the street, and how dense."""

from dataclasses import dataclass

Range = tuple[float, float]
Count = tuple[int, int]  # fewest and most in a scene


@dataclass(frozen=True)
class Kind:
    """Lengths in metres; shares are probabilities; counts are per scene."""

    road_half: Range  # half the road's width
    pavement: Range  # its width on either side
    verge: Range  # width of the grass between pavement and plots
    lot: Range  # length of a plot along the street
    house_share: float  # plots with a house
    storeys: Count
    setback: Range  # from the plot's edge to the house
    detached: float  # houses with a gap to the next one
    fence_share: float  # plots with a fence
    hedge_share: float  # of the plots without one, those with a hedge
    trees: Count  # tall ones on the plots
    street_trees: Count  # low ones on the pavement
    poles: Count
    signs: Count
    parked_share: float  # sides of the street with parked cars
    parked: Count  # on such a side
    moving: Count
    pedestrians: Count
    cyclists: Count
    skyline: Range  # height of what closes the view


KINDS = {
    "town": Kind(road_half=(3.6, 5.0), pavement=(2.0, 3.4), verge=(0.0, 0.2), lot=(8, 14),
                 house_share=0.93, storeys=(2, 5), setback=(0.0, 0.8), detached=0.2,
                 fence_share=0.5, hedge_share=0.1, trees=(0, 2), street_trees=(1, 4),
                 poles=(3, 5), signs=(1, 3), parked_share=0.5, parked=(1, 3), moving=(0, 2),
                 pedestrians=(3, 6), cyclists=(1, 3), skyline=(8, 18)),
    "suburb": Kind(road_half=(3.0, 3.9), pavement=(1.4, 2.2), verge=(0.3, 1.2), lot=(10, 15),
                   house_share=0.75, storeys=(1, 2), setback=(2.5, 6.0), detached=0.7,
                   fence_share=0.75, hedge_share=0.6, trees=(4, 8), street_trees=(1, 3),
                   poles=(3, 5), signs=(1, 2), parked_share=0.4, parked=(1, 3), moving=(0, 2),
                   pedestrians=(2, 5), cyclists=(1, 3), skyline=(4, 9)),
    "country": Kind(road_half=(2.7, 3.4), pavement=(0.7, 1.2), verge=(0.6, 2.0), lot=(13, 20),
                    house_share=0.3, storeys=(1, 2), setback=(3.0, 8.0), detached=0.8,
                    fence_share=0.65, hedge_share=0.5, trees=(7, 12), street_trees=(0, 1),
                    poles=(3, 4), signs=(1, 2), parked_share=0.2, parked=(1, 2), moving=(1, 2),
                    pedestrians=(1, 4), cyclists=(1, 3), skyline=(3, 7)),
}
