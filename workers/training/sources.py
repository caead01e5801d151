"""The photos of training and evaluation: where they come from, their licences, what is in them.

Nothing of them is in this repository. Photos of Debian packages are optional.
"""

from dataclasses import dataclass

Area = tuple[tuple[float, float], ...]  # corners in shares of width and height

ALL: Area = ((0, 0), (1, 0), (1, 1), (0, 1))
DEBIAN = "debian:usr/share/backgrounds/"
PUBLIC = "public domain"


@dataclass(frozen=True)
class Source:
    """A photo. `file`: the package that ships it, and the path inside."""

    name: str
    file: str
    licence: str
    subject: bool = False
    held_out: bool = False  # for evaluation alone
    water: tuple[Area, ...] = ()
    foliage: tuple[Area, ...] = ()


SOURCES = (
    # Subjects. Evaluation has its own, all from packages that tests need anyway.
    Source("chelsea", "skimage:data/chelsea.png", "CC0-1.0", True, held_out=True),
    Source("rocket", "skimage:data/rocket.jpg", PUBLIC, True, held_out=True),
    Source("coffee", "skimage:data/coffee.png", "CC0-1.0", True, held_out=True),
    Source(
        "hopper", "matplotlib:mpl-data/sample_data/grace_hopper.jpg", PUBLIC, True, held_out=True
    ),
    Source("astronaut", "skimage:data/astronaut.png", PUBLIC, True),
    Source("camera", "skimage:data/camera.png", "CC0-1.0", True),
    Source("motorcycle", "skimage:data/motorcycle_left.png", "CC0-1.0", True),
    Source("flower", "sklearn:datasets/images/flower.jpg", "CC-BY-2.0", True, foliage=(ALL,)),
    Source(
        "china",
        "sklearn:datasets/images/china.jpg",
        "CC-BY-2.0",
        True,
        water=(((0.6, 0.52), (1, 0.5), (1, 0.78), (0.75, 0.8), (0.55, 0.75)),),
        foliage=(((0, 0.7), (0.45, 0.8), (1, 0.8), (1, 1), (0, 1)),),
    ),
    Source("fig", DEBIAN + "Picture_0B_by_freespace.jpg", "CC-BY-4.0", True),
    Source("drum", DEBIAN + "Wine_by_Jakkub_Mede.jpg", "CC-BY-4.0", True),
    Source("bird", DEBIAN + "free_by_Peter_Nerlich.jpg", "CC-BY-SA-4.0", True),
    Source("nuthatch", DEBIAN + "Kleiber_by_Lukas_Baubkus.jpg", "CC-BY-SA-3.0", True),
    Source("dogs", DEBIAN + "friends_by_Aitzol_Berasategi.jpg", "CC-BY-4.0", True),
    Source(
        "dandelions",
        DEBIAN + "seeding_by_Clements_Engelhardt.jpg",
        "CC0-1.0",
        True,
        foliage=(((0, 0.5), (1, 0.5), (1, 1), (0, 1)),),
    ),
    # What stands behind them.
    Source("grass", "skimage:data/grass.png", "CC0-1.0", held_out=True, foliage=(ALL,)),
    Source("brick", "skimage:data/brick.png", "CC0-1.0", held_out=True),
    Source("moon", "skimage:data/moon.png", PUBLIC, held_out=True),
    Source(
        "hill",
        DEBIAN + "aitzgorri_by_Aitzol_Berasategi.jpg",
        "CC-BY-4.0",
        foliage=(((0, 0.5), (0.55, 0.55), (0.8, 0.45), (1, 0.6), (1, 0.72), (0, 0.62)),),
    ),
    Source("bridge", DEBIAN + "Bridge_by_Sander_Klootwijk.jpg", "CC-BY-SA-4.0"),
    Source("gravel", "skimage:data/gravel.png", "CC0-1.0"),
    Source("galaxies", "skimage:data/hubble_deep_field.jpg", PUBLIC),
    Source(
        "stream",
        DEBIAN + "life_by_Aitzol_Berasategi.jpg",
        "CC-BY-4.0",
        water=(((0.3, 0.45), (0.5, 0.4), (0.7, 0.6), (0.75, 1), (0.2, 1), (0.35, 0.7)),),
        foliage=(((0, 0), (1, 0), (1, 0.35), (0, 0.35)),),
    ),
    Source("peaks", DEBIAN + "picosdeeuropa_by_Aitzol_Berasategi.jpg", "CC-BY-4.0"),
    Source("sunset", DEBIAN + "sunset_by_Aitzol_Berasategi.jpg", "CC-BY-4.0"),
    Source("leaves", DEBIAN + "Dragonfly_by_Bolly.jpg", "CC-BY-SA-4.0", foliage=(ALL,)),
    Source(
        "sea",
        DEBIAN + "Infinite-Sea_by_Aury88.jpg",
        "CC-BY-SA-3.0",
        water=(((0, 0.68), (1, 0.68), (1, 1), (0, 1)),),
    ),
    Source("brushes", DEBIAN + "Picture_1A_by_freespace.jpg", "CC-BY-4.0"),
    Source("haze", DEBIAN + "umang_by_Abhishek_Mudgal.jpg", "CC-BY-4.0"),
    Source("grain", DEBIAN + "analogpattern_by_Peter_Nerlich.jpg", "CC-BY-SA-4.0"),
)
