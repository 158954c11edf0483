"""An emulator of Cloud Storage with the conditions on generations that checkpoints are written under.

gcp-storage-emulator knows generations, but neither tells them with an object nor honours ifGenerationMatch.
"""

import itertools
import sys
import threading
from http import HTTPStatus

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.server import create_server

_lock = threading.Lock()
_numbers = itertools.count(1)
_generations: dict[tuple[str, str], int] = {}
_download, _upload = objects.download, objects._media_upload


def generation(storage, bucket: str, name: str) -> int:
    """0 where there is no such object."""
    try:
        made = storage.get_file_obj(bucket, name)["generation"]
    except NotFound:
        return 0
    return _generations.setdefault((bucket, name, made), next(_numbers))


def download(request, response, storage, *args, **kwargs):
    with _lock:
        number = generation(storage, request.params["bucket_name"], request.params["object_id"])
        if request.query.get("ifGenerationNotMatch", [""])[0] == str(number):
            response.status = HTTPStatus.NOT_MODIFIED if number else HTTPStatus.NOT_FOUND
            return
        response["x-goog-generation"] = str(number)
        _download(request, response, storage, *args, **kwargs)


def upload(request, response, storage):
    with _lock:
        bucket, name = request.params["bucket_name"], request.query["name"][0]
        wanted = request.query.get("ifGenerationMatch", [None])[0]
        if wanted is not None and wanted != str(generation(storage, bucket, name)):
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
        _upload(request, response, storage)
        made = storage.get_file_obj(bucket, name)["generation"]
        _generations[bucket, name, made] = number = next(_numbers)
        response._content = response._content.replace(
            f'"generation": "{made}"', f'"generation": "{number}"'
        )


if __name__ == "__main__":
    objects.download, objects._media_upload = download, upload
    create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="bucket").run()
