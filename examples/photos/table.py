"""The photos that scikit-image and scikit-learn ship, each with its licence as those packages document it.

One table for everything that needs real photos with known terms: the demo's HTTP server and the base model's training.
Photos whose licence nobody states are listed too, as `NOASSERTION`: the demo shows that policy refuses them. "No known
copyright restrictions" is not a licence, so those photos are `NOASSERTION` as well.

Licences, creators and pages are from the docstrings in `skimage/data/_fetchers.py` (scikit-image 0.26) and from
`sklearn/datasets/images/README.txt` (scikit-learn 1.9), read on 2026-11-21. This module must not know what licet or
anybody else does with a photo.
"""

from dataclasses import dataclass
from importlib import resources

CC0 = "CC0-1.0"
CC0_URL = "https://creativecommons.org/publicdomain/zero/1.0/"
CC_BY = "CC-BY-2.0"
CC_BY_URL = "https://creativecommons.org/licenses/by/2.0/"
PUBLIC_DOMAIN = "LicenseRef-Public-Domain"
UNKNOWN = "NOASSERTION"
SKIMAGE_DOC = "https://scikit-image.org/docs/stable/api/skimage.data.html#skimage.data."


@dataclass(frozen=True)
class Photo:
    """One photo inside an installed package, and the terms on which it may be used."""

    key: str  # short, unique, [a-z_]
    file: str  # path whose first part is the package that holds it: "skimage/data/chelsea.png"
    caption: str  # what the photo shows, a plain sentence fragment
    licence: str  # SPDX identifier, LicenseRef-…, or NOASSERTION when nobody states one
    licence_url: str  # the licence's text, or where the owner grants it; "" when unknown
    creator: str  # who made the photo; "" when unknown
    credit: str  # the line to print beside the photo or wherever it was used
    source_page: str  # the page that says what is said here


PHOTOS: tuple[Photo, ...] = (
    Photo(
        key="chelsea",
        file="skimage/data/chelsea.png",
        caption="a photo of a cat",
        licence=CC0,
        licence_url=CC0_URL,
        creator="Stefan van der Walt",
        credit="Chelsea the cat, by Stefan van der Walt (CC0-1.0)",
        source_page=SKIMAGE_DOC + "chelsea",
    ),
    Photo(
        key="coffee",
        file="skimage/data/coffee.png",
        caption="a photo of a coffee cup",
        licence=CC0,
        licence_url=CC0_URL,
        creator="Rachel Michetti",
        credit="Coffee cup, by Rachel Michetti, courtesy of Pikolo Espresso Bar (CC0-1.0)",
        source_page=SKIMAGE_DOC + "coffee",
    ),
    Photo(
        key="camera",
        file="skimage/data/camera.png",
        caption="a photo of a photographer",
        licence=CC0,
        licence_url=CC0_URL,
        creator="Lav Varshney",
        credit="Cameraman, by Lav Varshney (CC0-1.0)",
        source_page=SKIMAGE_DOC + "camera",
    ),
    Photo(
        key="brick",
        file="skimage/data/brick.png",
        caption="a photo of a brick wall",
        licence=CC0,
        licence_url=CC0_URL,
        creator="CC0Textures",
        credit="Bricks25, by CC0Textures (CC0-1.0)",
        source_page="https://cc0textures.com/view.php?tex=Bricks25",
    ),
    Photo(
        key="grass",
        file="skimage/data/grass.png",
        caption="a photo of grass",
        licence=CC0,
        licence_url=CC0_URL,
        creator="linolafett",
        credit="Grass 01, by linolafett on DeviantArt (CC0-1.0)",
        source_page="https://www.deviantart.com/linolafett/art/Grass-01-434853879",
    ),
    Photo(
        key="gravel",
        file="skimage/data/gravel.png",
        caption="a photo of gravel",
        licence=CC0,
        licence_url=CC0_URL,
        creator="CC0Textures",
        credit="Gravel04, by CC0Textures (CC0-1.0)",
        source_page="https://cc0textures.com/view.php?tex=Gravel04",
    ),
    Photo(
        key="retina",
        file="skimage/data/retina.jpg",
        caption="a photo of a retina",
        licence=CC0,
        licence_url=CC0_URL,
        creator="Mikael Häggström",
        credit="Fundus photograph of a normal left eye, by Mikael Häggström (CC0-1.0)",
        source_page="https://commons.wikimedia.org/wiki/File:Fundus_photograph_of_normal_left_eye.jpg",
    ),
    Photo(
        key="astronaut",
        file="skimage/data/astronaut.png",
        caption="a photo of an astronaut",
        licence=PUBLIC_DOMAIN,
        licence_url=SKIMAGE_DOC + "astronaut",
        creator="NASA",
        credit="Eileen Collins, by NASA (public domain)",
        source_page="https://flic.kr/p/r9qvLn",
    ),
    Photo(
        key="rocket",
        file="skimage/data/rocket.jpg",
        caption="a photo of a rocket",
        licence=PUBLIC_DOMAIN,
        licence_url="http://arstechnica.com/tech-policy/2015/03/elon-musk-puts-spacex-photos-into-the-public-domain/",
        creator="SpaceX",
        credit="Falcon 9 carrying DSCOVR, by SpaceX (public domain)",
        source_page="https://www.flickr.com/photos/spacexphotos/16511594820/",
    ),
    Photo(
        key="stars",
        file="skimage/data/hubble_deep_field.jpg",
        caption="a photo of the stars",
        licence=PUBLIC_DOMAIN,
        licence_url="http://www.nasa.gov/audience/formedia/features/MP_Photo_Guidelines.html",
        creator="NASA",
        credit="Hubble eXtreme Deep Field, by NASA (public domain)",
        source_page="http://hubblesite.org/newscenter/archive/releases/2012/37/image/a/",
    ),
    Photo(
        key="china",
        file="sklearn/datasets/images/china.jpg",
        caption="a photo of a pagoda",
        licence=CC_BY,
        licence_url=CC_BY_URL,
        creator="danielbuechele",
        credit="Pagoda in China, by danielbuechele on Flickr (CC-BY-2.0)",
        source_page="https://www.flickr.com/photos/danielbuechele/6061409035/",
    ),
    Photo(
        key="flower",
        file="sklearn/datasets/images/flower.jpg",
        caption="a photo of a flower",
        licence=CC_BY,
        licence_url=CC_BY_URL,
        # The README's text repeats china.jpg's author here; both of its links for this photo lead to vultilion.
        creator="vultilion",
        credit="Flower, by vultilion on Flickr (CC-BY-2.0)",
        source_page="https://www.flickr.com/photos/vultilion/6056698931/",
    ),
    Photo(
        key="motorcycle",
        file="skimage/data/motorcycle_left.png",
        caption="a photo of a motorcycle",
        licence=UNKNOWN,
        licence_url="",
        creator="Nera Nesic, Porter Westling, Xi Wang, York Kitajima, Greg Krathwohl, Daniel Scharstein",
        credit="Motorcycle, Middlebury 2014 stereo benchmark (no licence stated)",
        source_page="http://vision.middlebury.edu/stereo/data/scenes2014/",
    ),
    Photo(
        key="moon",
        file="skimage/data/moon.png",
        caption="a photo of the moon",
        licence=UNKNOWN,
        licence_url="",
        creator="",
        credit="Surface of the moon, from scikit-image (no licence stated)",
        source_page=SKIMAGE_DOC + "moon",
    ),
    Photo(
        key="page",
        file="skimage/data/page.png",
        caption="a photo of a page",
        licence=UNKNOWN,
        licence_url="",
        creator="",
        credit="Scanned page, from scikit-image (no licence stated)",
        source_page=SKIMAGE_DOC + "page",
    ),
    Photo(
        key="coins",
        file="skimage/data/coins.png",
        caption="a photo of coins",
        licence=UNKNOWN,
        licence_url="",
        creator="",
        credit="Greek coins from Pompeii, Brooklyn Museum (no licence stated)",
        source_page="https://www.brooklynmuseum.org/opencollection/archives/image/51611",
    ),
    Photo(
        key="colon",
        file="skimage/data/ihc.png",
        caption="a photo of a stained tissue",
        licence=UNKNOWN,
        licence_url="",
        creator="Center for Microscopy And Molecular Imaging (CMMI)",
        credit="Colonic glands, immunohistochemical staining, CMMI (no licence stated)",
        source_page=SKIMAGE_DOC + "immunohistochemistry",
    ),
)


def photo_bytes(photo: Photo) -> bytes:
    """The photo's file, byte for byte as its package ships it.

    Raises ModuleNotFoundError when the package is not installed, FileNotFoundError when it no longer has the file.
    """
    package, _, path = photo.file.partition("/")
    return resources.files(package).joinpath(path).read_bytes()
