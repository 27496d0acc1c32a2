import pytest

from data_pipeline.errors import InputError
from data_pipeline.redaction import (
    MARK,
    has_secrets,
    is_secret_name,
    redact,
    redact_texts,
    redacted,
    remember_secrets,
    remember_secrets_of_text,
    without_secrets,
)

SECRET = "v3ry-h1dden.Value+1="
URLS = (
    "https://user:{}@data.example/a.zarr",
    "https://{}@data.example/a.zarr",
    "https://data.example/a.zarr?sig={}&se=2030",
    "https://data.example/a.zarr?X-Amz-Signature={}",
    "https://data.example/a.zarr?a=1&access_token={}#b",
    "simplecache::s3://user:{}@bucket/a.zarr",
)


@pytest.mark.parametrize(
    "name",
    [
        *("key", "secret", "token", "password", "AWSAccessKeyId", "sas_token", "credential"),
        *("SSECustomerKey", "X-Api-Key", "Authorization", "account_key", "connection_string"),
        *("aws_secret_access_key", "client_secret", "X-Amz-Signature", "sig", "passwd", "apikey"),
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["endpoint_url", "anon", "region_name", "signature_version", "keyboard", "timeout"]
)
def test_other_names_are_not_secret(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "options",
    [
        {"key": SECRET},
        {"client_kwargs": {"headers": {"Authorization": f"Bearer {SECRET}"}}},
        {"client_kwargs": {"headers": {"X-Custom": f"Bearer {SECRET}"}}},
        {"client_kwargs": {"headers": {"X-Custom": SECRET}}},
        {"Headers": {"Private": [SECRET], "User-Agent": "me"}},
        {"client_kwargs": {"endpoint_url": f"https://me:{SECRET}@minio.example"}},
        {"token": {"private_key": SECRET}},
        {"credentials": [SECRET, "b"]},
        {"password": 123456789},
    ],
)
def test_secrets_of_options_are_neither_shown_nor_compared(options: dict) -> None:
    settings = {"source": {"path": "s3://a/b", "storage_options": options | {"anon": False}}}
    assert has_secrets(settings)
    shown = str(redacted(settings))
    assert MARK in shown
    assert SECRET not in shown
    assert "123456789" not in shown
    assert redacted(redacted(settings)) == redacted(settings)
    assert without_secrets(redacted(settings)) == without_secrets(settings)
    assert MARK not in str(without_secrets(settings))


@pytest.mark.parametrize("url", URLS)
def test_secrets_of_urls_are_neither_shown_nor_compared(url: str) -> None:
    before, rotated = url.format("0ld-secret"), url.format("n3w-secret")
    assert redacted({"path": [before]}) == {"path": [url.format(MARK)]}
    assert without_secrets(before) == without_secrets(rotated) == without_secrets(redact(before))
    assert redact(f"cannot read {before} now") == f"cannot read {url.format(MARK)} now"


@pytest.mark.parametrize(
    "value",
    [
        {"storage_options": {"token": None, "anon": True, "endpoint_url": "https://minio.example"}},
        {"storage_options": {"token": "anon"}},
        {"storage_options": {"headers": {"User-Agent": "me", "Accept": "text/plain"}}},
        {"headers": {"X-Custom": "of no library"}},
        {"rename": {"key": "geopotential", "token": "temperature"}},
        "abfs://container@account.dfs.core.windows.net/a.zarr",
        ["gs://bucket/a.zarr", "https://data.example/a.nc?year=2020", "data/*.nc", 1, None],
    ],
)
def test_what_is_no_secret_stays(value: object) -> None:
    assert redacted(value) == without_secrets(value) == value
    assert not has_secrets(value)


def test_secrets_that_were_read_are_found_in_any_text() -> None:
    remember_secrets({"storage_options": {"secret": "r3membered", "key": "abcde", "pw": "a"}})
    remember_secrets("https://me:fr0m%2Furl@a.example")
    for text in ("denied for r3membered!", "fr0m%2Furl", "fr0m/url", "'abcde'"):
        assert redact(text) != text
        assert MARK in redact(text)
    assert redact("abcdefg and a") == "abcdefg and a"  # parts of words are not secrets
    assert redact_texts({"a": ["x r3membered", 1]}) == {"a": [f"x {MARK}", 1]}
    assert str(InputError("no access for r3membered")) == f"no access for {MARK}"


@pytest.mark.parametrize(
    "text",
    [
        "--data.source.storage_options.secret=wr1tten-{}",
        "data:\n  source:\n    storage_options:\n      secret: 'wr1tten-{}'\n  x: [",
        "storage_options:\n  headers:\n    X-Api-Token: wr1tten-{}\n  x: [",
        "storage_options: {{key: wr1tten-{}, anon: false}}",
        "storage_options: {{client_kwargs: {{headers: {{Authorization: Bearer wr1tten-{}}}}}}}",
    ],
)
def test_secrets_of_wrong_settings_are_found(text: str) -> None:
    secret = f"wr1tten-{len(text)}"
    remember_secrets_of_text(text.format(len(text)))
    assert redact(f"got {secret}") == f"got {MARK}"
