"""Which way up an image is to be shown."""

import struct
from types import MappingProxyType

from PIL import Image
from PIL.ExifTags import Base as ExifTag

# EXIF 2.32, table 4.6.4: what undoes each orientation.
UPRIGHT = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
ROWS_ARE_COLUMNS = (5, 6, 7, 8)
# Of the upright image the right side, or the bottom, is where the stored rows or columns begin.
FROM_THE_RIGHT = (2, 3, 6, 7)
FROM_THE_END = (3, 4, 7, 8)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) where there is none or the EXIF block is damaged.

    Viewers show an image with sound pixels and a damaged EXIF block, so it is used here, too.
    """
    try:
        orientation = image.getexif().get(ExifTag.Orientation, 1)
    except (SyntaxError, ValueError, TypeError, LookupError, OSError, OverflowError, struct.error):
        return 1
    return orientation if isinstance(orientation, int) else 1
