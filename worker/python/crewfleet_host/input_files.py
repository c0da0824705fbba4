"""Files among the inputs of a kickoff: an object with the one key "$file" becomes one of CrewAI's `input_files`.

    {"PHOTO": {"$file": {"base64": "iVBORw0…", "media_type": "image/png", "name": "photo.png"}}}
    {"PHOTO": {"$file": {"data_uri": "data:image/png;base64,iVBORw0…"}}}
    {"PHOTO": {"$file": {"url": "https://example.com/photo.png"}}}

A plain string stays one, whatever it looks like.
"""

import base64
import binascii
import importlib
import inspect
import mimetypes
import re
from typing import Any
from urllib.parse import unquote_to_bytes

from .inputs import UnusableInput

_KEY = "$file"
_SOURCES = ("base64", "data_uri", "url")
_OTHERS = ("media_type", "name")
_DATA_URI = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),(.*)", re.DOTALL)
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")
# The first crewai whose kickoff() takes files.
_LOWEST = "1.9"


class UnusableFile(UnusableInput):
    """A file among the inputs that cannot be given to the crew; the message names it, and shows nothing of what is in it."""

    def __init__(self, input_name: str, why: str) -> None:
        super().__init__(f"inputs.{input_name}", why)


def split(inputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs that are none, and those that are files as they were given, by name. Raises UnusableFile for one of another form."""
    given = {name: value[_KEY] for name, value in inputs.items() if isinstance(value, dict) and _KEY in value}
    for name in given:
        if len(inputs[name]) != 1:
            raise UnusableFile(name, f'has keys beside "{_KEY}"; put them into it')
    return {name: value for name, value in inputs.items() if name not in given}, given


def for_crewai(given: dict[str, Any], kickoff: Any) -> dict[str, Any]:
    """CrewAI's file objects of split()'s files, for the method `kickoff`. Raises UnusableFile."""
    if not given:
        return {}
    first = min(given)
    if "input_files" not in inspect.signature(kickoff).parameters:
        raise UnusableFile(first, f"is a file, and what runs here takes none: a Crew or a Flow of crewai {_LOWEST} or later does")
    try:
        crewai_files = importlib.import_module("crewai_files")
    except ImportError:
        raise UnusableFile(first, 'is a file, and the crew\'s Python has no crewai-files; install "crewai[file-processing]" there') from None
    return {name: _file(crewai_files, name, file) for name, file in given.items()}


def _file(crewai_files: Any, input_name: str, file: Any) -> Any:
    kind, content, media_type, filename = _read(input_name, file)
    try:
        if kind == "url":
            source = crewai_files.FileUrl(url=content, filename=filename)
        else:
            filename = filename or f"{re.sub('[^A-Za-z0-9_.-]', '_', input_name)}{mimetypes.guess_extension(media_type or '') or ''}"
            source = crewai_files.FileBytes(data=content, filename=filename)
        wrapper = _wrapper(crewai_files, media_type)
        return wrapper(source=source) if wrapper is not None else crewai_files.wrap_file_source(source)
    except ValueError as error:  # pydantic's shows the content
        raise UnusableFile(input_name, f"is refused by CrewAI as a file ({type(error).__name__})") from None


def _wrapper(crewai_files: Any, media_type: str | None) -> Any:
    """The class for a media type that is said; where none is, CrewAI looks at the content."""
    if media_type is None:
        return None
    if media_type == "application/pdf":
        return crewai_files.PDFFile
    kinds = {"image": crewai_files.ImageFile, "audio": crewai_files.AudioFile, "video": crewai_files.VideoFile, "text": crewai_files.TextFile}
    return kinds.get(media_type.partition("/")[0])


def _read(input_name: str, file: Any) -> tuple[str, Any, str | None, str | None]:
    """The source's kind, its bytes or URL, the media type and the name."""
    sources = [source for source in _SOURCES if isinstance(file, dict) and source in file]
    if len(sources) != 1:
        raise UnusableFile(input_name, f'is no file: "{_KEY}" holds an object with one of base64, data_uri and url')
    unknown = sorted(set(file) - set(_SOURCES) - set(_OTHERS))
    if unknown:
        raise UnusableFile(input_name, f'has an unknown key in "{_KEY}": {unknown[0]!r}; there are {", ".join(_SOURCES + _OTHERS)}')
    for key, value in file.items():
        if not isinstance(value, str) and not (value is None and key in _OTHERS):
            raise UnusableFile(input_name, f'has "{key}" in "{_KEY}", which is no text')
    kind, media_type, filename = sources[0], file.get("media_type"), file.get("name")
    if media_type is not None and not _MEDIA_TYPE.fullmatch(media_type):
        raise UnusableFile(input_name, f"has the media_type {media_type[:100]!r}, which is none, as image/png is")
    if filename is not None and (not filename or "/" in filename or "\0" in filename):
        raise UnusableFile(input_name, 'has a "name" that is no file\'s: write it without folders')
    if kind == "url":
        if not file["url"].startswith(("https://", "http://")):
            raise UnusableFile(input_name, "has a url that begins with neither https:// nor http://")
        return kind, file["url"], media_type, filename
    if kind == "base64":
        return kind, _decoded(input_name, file["base64"]), media_type, filename
    found = _DATA_URI.fullmatch(file["data_uri"])
    if found is None:
        raise UnusableFile(input_name, "has a data_uri that is none, as data:image/png;base64,… is")
    said, parameters, text = found.groups()
    content = _decoded(input_name, text) if parameters.endswith(";base64") else unquote_to_bytes(text)
    return kind, content, media_type or said or None, filename


def _decoded(input_name: str, text: str) -> bytes:
    try:
        return base64.b64decode(re.sub(r"[\r\n]", "", text), validate=True)
    except (binascii.Error, ValueError):
        raise UnusableFile(input_name, "is no base64") from None
