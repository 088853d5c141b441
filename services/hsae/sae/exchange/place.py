"""Where an SAE of another program is: told without torch, so that a wrong path is refused at once."""

from dataclasses import dataclass
from pathlib import Path

from hsae.errors import UserError

_MEANT_LOCAL = (".", "/", "~")


@dataclass(frozen=True, slots=True)
class SaePlace:
    """Where an SAE is.

    Attributes:
        source: a folder, a safetensors file, or a repository of the hub (owner/name).
        subfolder: the folder inside that has the SAE; empty: the source itself.
        revision: branch, tag or commit of a repository; None: the main branch.
        cache_dir: cache of hub downloads; None: the hub's own.
    """

    source: str
    subfolder: str = ""
    revision: str | None = None
    cache_dir: Path | None = None

    def local(self) -> Path | None:
        """The file, or the folder with the subfolder in it; None: the source is a repository.

        Raises:
            UserError: there is no such file or folder.
        """
        path = Path(self.source).expanduser()
        if path.is_file():
            if self.subfolder:
                raise UserError(f"{path} is a file, which has no subfolder: leave --subfolder out")
            return path
        if path.is_dir():
            folder = path / self.subfolder
            if not folder.is_dir():
                raise UserError(f"there is no folder {folder}: correct --subfolder")
            return folder
        if self.source.startswith(_MEANT_LOCAL) or self.source.count("/") != 1:
            raise UserError(
                f"there is no folder or file {self.source}: correct the path, or give owner/name of the hub"
            )
        return None
