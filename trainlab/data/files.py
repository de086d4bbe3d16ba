"""Files of datasets: where they lie, and how they are fetched."""

from pathlib import Path

from trainlab.config import UserError


def fetched(
    name: str, folder: str, data_dir: Path | None, download: bool, url: str, checksum: str
) -> Path:
    """The path of a data file: as it is where it lies there, else downloaded if that is allowed."""
    if data_dir is None:
        import platformdirs

        data_dir = Path(platformdirs.user_cache_dir("trainlab"))
    target = data_dir / folder
    for candidate in (target / name, target / name.removesuffix(".gz")):
        if candidate.is_file():
            return candidate
    if not download:
        raise UserError(
            f"dataset={folder}: {target / name} does not exist. Put the official files there, set "
            "data_dir (or the environment variable TRAINLAB_DATA) to the folder that holds "
            f"{folder}/, or allow fetching them with download=true."
        )
    import pooch

    try:
        return Path(pooch.retrieve(url + name, f"sha256:{checksum}", fname=name, path=target))
    except Exception as error:
        raise UserError(f"dataset={folder}: cannot download {url + name}: {error}") from error
