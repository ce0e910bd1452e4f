"""Manifests: which files form a batch, and what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refit.batches import Code, UploadPart
from refit.errors import UnreadableFile
from refit.manifest import KEYS_BYTES, MAX_BYTES, content_hash, files_of, is_manifest, missing

KEYS = ["parts/loans/2013-05/b.parquet", "parts/loans/a.csv"]


def document(**fields) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"\n  "])
def test_files_are_read_in_the_order_given(mark):
    data = mark + document(files=KEYS)
    assert is_manifest(data)
    assert files_of(data, "loans") == tuple(KEYS)


@pytest.mark.parametrize("data", [b"", b"v,y\n1,1\n", b'"files",y\n', b'{"rows": []}', b"PAR1", b'["files"]'])
def test_other_files_are_no_manifests(data):
    assert not is_manifest(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (document(files=[]), "names no file"),
        (b'{"files": [', "is no JSON"),
        (b'{"files": ["\xff"]}', "is no JSON"),
        (b'{"files":' + b"[" * 100_000, "is no JSON"),
        (b'[{"files": []}]', "no JSON object"),
        (document(files=KEYS, model="loans"), "field 'model' is unknown"),
        (document(files="parts/loans/a"), "no list of keys"),
        (document(files=[1]), "no list of keys"),
        (document(files={"a": 1}), "no list of keys"),
        (document(files=["incoming/loans/a.csv"]), "'incoming/loans/a.csv' is no file under parts/loans/"),
        (document(files=["parts/other/a.csv"]), "no file under parts/loans/"),
        (document(files=["parts/loans/"]), "no file under parts/loans/"),
        (document(files=["parts/loans/a/"]), "no file under parts/loans/"),
        (document(files=["s3://bucket/parts/loans/a"]), "no file under parts/loans/"),
        (document(files=["parts/loans/\ud800"]), "no file under parts/loans/"),
        (document(files=["parts/loans/" + "a" * 1020]), "no file under parts/loans/"),
        (
            document(files=["parts/loans/a", "parts/loans/b", "parts/loans/a"]),
            "'parts/loans/a' is named twice",
        ),
        (document(files=[f"parts/loans/{i}" for i in range(1001)]), "names 1001 files"),
        (document(files=[f"parts/loans/{i}" + "a" * 200 for i in range(1000)]), "longer than 128 KiB"),
        (document(files=KEYS, x=" " * MAX_BYTES), "larger than 2 MiB"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_named(data, says):
    with pytest.raises(UnreadableFile, match="The manifest is not right: ") as found:
        files_of(data, "loans")
    assert found.value.code == Code.BAD_MANIFEST
    assert says in str(found.value)
    assert len(str(found.value)) < 300


def test_as_many_files_as_allowed_are_read():
    keys = [f"parts/loans/{i:03}" for i in range(1000)]
    assert sum(map(len, keys)) < KEYS_BYTES
    assert files_of(document(files=keys), "loans") == tuple(keys)


@given(
    st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_any_document_is_files_or_a_refusal(found):
    try:
        assert all(key.startswith("parts/m/") for key in files_of(json.dumps({"files": found}).encode(), "m"))
    except UnreadableFile as error:
        assert error.code == Code.BAD_MANIFEST


def test_a_missing_file_says_in_which_order_to_upload():
    assert "upload all files first and the manifest last" in str(missing("parts/loans/a"))


def test_the_same_contents_in_the_same_order_are_the_same_batch():
    one, other = UploadPart("parts/m/a", "v1", "aa", 1), UploadPart("parts/m/b", "v2", "bb", 1)
    assert content_hash([one, other]) == content_hash([UploadPart("parts/m/c", "v9", "aa", 1), other])
    assert len({content_hash(parts) for parts in ([one], [one, other], [other, one], [one, one])}) == 4
