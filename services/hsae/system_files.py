"""Names that operating systems, storage servers and other programs give to what they put beside a user's files."""

# Compared without regard to case: file systems differ in it. Hidden names (with a dot in front) need no entry here.
_SYSTEM_FOLDERS = frozenset(
    name.casefold()
    for name in (
        # Synology, QNAP, NetApp: thumbnails, recycle bins and snapshots in every shared folder
        "@eaDir", "#recycle", "#snapshot", "@tmp", "@Recycle", "@Recently-Snapshot", "@__thumb", "~snapshot",
        # macOS: what its ZIP archives and its file server hold beside the files
        "__MACOSX", "Network Trash Folder", "Temporary Items", "TheVolumeSettingsFolder",
        # Windows
        "$RECYCLE.BIN", "System Volume Information",
        # Linux file systems and Python
        "lost+found", "__pycache__",
    )
)  # fmt: skip
# Windows of old; in lower case they may be classes of a data set.
_SYSTEM_FOLDERS_IN_CAPITALS = frozenset({"RECYCLER", "RECYCLED"})
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"})


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden: `.thumbnails`, `.ipynb_checkpoints`, AppleDouble's `._photo.jpg`."""
    return name.startswith(".")


def is_system_folder(name: str) -> bool:
    """Whether a folder belongs to the system or another program: hidden, or of a known name such as `@eaDir`."""
    return is_hidden(name) or name.casefold() in _SYSTEM_FOLDERS or name in _SYSTEM_FOLDERS_IN_CAPITALS


def is_system_file(name: str) -> bool:
    """Whether a file is one that a system makes by itself, such as `Thumbs.db`."""
    return name.casefold() in _SYSTEM_FILES
