"""Formats of files by their first bytes, whatever their names."""

from pathlib import Path
from typing import Literal

from data_pipeline.errors import InputError
from data_pipeline.sources.virtual.references import is_reference_file

FileFormat = Literal["netcdf3", "hdf5", "grib", "references", "unknown"]

_READ = 1024  # bytes
_HDF5 = b"\x89HDF\r\n\x1a\n"  # may follow a block of the user's, of 512 bytes or its doubles
_NETCDF3 = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_PACKED = {
    b"PK\x03\x04": ("zip archive", "unzip {file} -d {stem}"),
    b"\x1f\x8b": ("gzip file", "gunzip {file}"),
    b"BZh": ("bzip2 file", "bunzip2 {file}"),
    b"\xfd7zXZ\x00": ("xz file", "unxz {file}"),
    b"\x28\xb5\x2f\xfd": ("zstd file", "unzstd {file}"),
}
_MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<head")


def format_of(file: str) -> FileFormat:
    """Format of a file.

    Raises:
        InputError: If it is empty, an archive or a web page ("unreadable-file"), with how to
            unpack it.
    """
    with open(file, "rb") as stream:
        head = stream.read(_READ)
    if head.startswith(_NETCDF3):
        return "netcdf3"
    if head.startswith(_HDF5) or head[512:].startswith(_HDF5):
        return "hdf5"
    if is_reference_file(head):
        return "references"
    if b"GRIB" in head:  # headers of transmission may precede the first message
        return "grib"
    packed = next((how for magic, how in _PACKED.items() if head.startswith(magic)), None)
    if head[257:262] == b"ustar":
        packed = "tar archive", "tar xf {file}"
    if packed:
        stem = str(Path(file).with_suffix(""))
        stem = f"{stem}_unpacked" if stem == file else stem
        what, command = packed[0], packed[1].format(file=file, stem=stem)
        message = f"{file} is a {what}, whatever its name, expected NetCDF, HDF5 or GRIB; unpack "
        message += f"it, such as with `{command}`, and give the path of what it holds"
        raise InputError(message, code="unreadable-file")
    if not head:
        raise InputError(f"{file} is empty; download it again", code="unreadable-file")
    if head.lstrip().lower().startswith(_MARKUP):
        text = " ".join(head.decode(errors="replace").split())[:80]
        message = f"{file} is a web page ({text!r}), expected data: the server may have asked for "
        raise InputError(message + "a login; download it again", code="unreadable-file")
    return "unknown"
