"""Names of files and folders that operating systems, storage servers and other programs create among a user's files."""

# Compared without case, because file systems differ in it. Hidden names (with a leading dot) need no entry.
_SYSTEM_FOLDERS = frozenset(
    name.casefold()
    for name in (
        # Synology, QNAP, NetApp: thumbnails, recycle bins and snapshots in every shared folder
        "@eaDir", "#recycle", "#snapshot", "@tmp", "@Recycle", "@Recently-Snapshot", "@__thumb", "~snapshot",
        # macOS: in ZIP archives and on file servers
        "__MACOSX", "Network Trash Folder", "Temporary Items", "TheVolumeSettingsFolder",
        # Windows
        "$RECYCLE.BIN", "System Volume Information",
        # Linux file systems and Python
        "lost+found", "__pycache__",
    )
)  # fmt: skip
# Old Windows; in lower case these may be classes of a data set.
_SYSTEM_FOLDERS_IN_CAPITALS = frozenset({"RECYCLER", "RECYCLED"})
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"})


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden: `.thumbnails`, `.ipynb_checkpoints`, AppleDouble's `._photo.jpg`."""
    return name.startswith(".")


def is_system_folder(name: str) -> bool:
    """Whether a folder belongs to the system or another program: hidden, or with a known name such as `@eaDir`."""
    return is_hidden(name) or name.casefold() in _SYSTEM_FOLDERS or name in _SYSTEM_FOLDERS_IN_CAPITALS


def is_system_file(name: str) -> bool:
    """Whether a file is created by an operating system, such as `Thumbs.db`."""
    return name.casefold() in _SYSTEM_FILES
