"""The pinhole camera: from metres in the street to pixels of the id image.

x points right from the middle of the road, y up from its surface, and z ahead from the camera, all in metres. The road
bends: at distance z its middle lies `curvature` · z² / 2 to the right, and everything with a position x bends with it.
"""

from dataclasses import dataclass

import numpy as np

SCENE_SIZE = (160, 120)  # (width, height) in pixels of the picture and the label
WIDTH, HEIGHT = 320, 240  # pixels of the id image: twice the scene's, for smooth edges
NEAR = 2.0  # metres; nothing nearer is drawn
FAR = 130.0  # metres; the end of the street

Point = tuple[float, float]  # (column, row) in pixels of the id image


@dataclass(frozen=True)
class Upright:
    """A plane that faces the camera, at a point of the ground. Turns metres right of and above it into pixels."""

    column: float  # pixels, of the point on the ground
    row: float
    scale: float  # pixels a metre

    def point(self, right: float, up: float) -> Point:
        return self.column + self.scale * right, self.row - self.scale * up

    def points(self, *metres: tuple[float, float]) -> list[Point]:
        return [self.point(right, up) for right, up in metres]

    def box(self, left: float, bottom: float, right: float, top: float) -> list[Point]:
        return self.points((left, bottom), (left, top), (right, top), (right, bottom))


@dataclass(frozen=True)
class Camera:
    """The position and the view of the camera in one frame."""

    height: float  # metres above the road
    focal: float  # pixels
    horizon: float  # row in pixels
    lateral: float  # metres right of the middle of the road
    heading: float  # pixels by which the view is turned
    curvature: float  # 1/metres

    def point(self, x: float, y: float, z: float) -> Point:
        """Turn metres into (column, row)."""
        scale = self.focal / z  # pixels a metre
        right = x - self.lateral + self.curvature * z * z / 2
        return WIDTH / 2 + self.heading + scale * right, self.horizon + scale * (self.height - y)

    def points(self, *metres: tuple[float, float, float]) -> list[Point]:
        return [self.point(x, y, z) for x, y, z in metres]

    def upright(self, x: float, z: float) -> Upright:
        """Return the plane that faces the camera at the point (x, z) of the ground."""
        return Upright(*self.point(x, 0.0, z), self.focal / z)

    def ground_depth(self) -> np.ndarray:
        """Return the distance in metres to the ground in each row, (HEIGHT,); FAR at and above the horizon."""
        below = np.arange(HEIGHT) + 0.5 - self.horizon
        return np.minimum(FAR, self.focal * self.height / np.maximum(below, 1e-6))
