"""Masking: what is kept of a URL, and that no other part of it is left."""

from __future__ import annotations

import shlex

import pytest

from nas.core.credentials import mask_credentials, mask_reason, mask_settings, mask_url, masked_command
from nas.core.errors import NasError

CANARY = "cAnArY7"
# Every one is a URL somebody might type; in all of them the canary is a password, or a part of one.
URLS = (
    f"mysql://h/d?user=me&passwd={CANARY}",
    f"postgresql://h/d?sslmode=require&sslpassword={CANARY}",
    f"postgresql://h/d?PASSWORD={CANARY}",
    f"postgresql://h/d?Password={CANARY}&sslmode=require",
    f"postgresql://h/d?pasword={CANARY}",
    f"mysql://h/d?passwd=a&{CANARY}=1",
    f"mysql://h/d?passwd=a@{CANARY}",
    f"postgres://me:{CANARY}@h/d",
    f"postgres://{CANARY}@h/d",
    f"postgres://me:{CANARY}",
    f"postgres://me:{CANARY}/d",
    f"postgres://me:a {CANARY}@h/d",
    f"postgres://me:a{{{CANARY}}}@h/d",
    f"postgres://me:a@b:{CANARY}@h/d",
    f"postgres://me:a/{CANARY}?b#c@h/d",
    f"postgres://me:'{CANARY}\"@h/d",
    f"postgres:/me:{CANARY}@h/d",
    f"postgres:me:{CANARY}@h/d",
    f"postgres//me:{CANARY}@h/d",
    f"postgres:///me:{CANARY}@h/d",
    f"POSTGRES://me:{CANARY}@h/d",
    f"postgresql+psycopg://me:{CANARY}@h/d",
    f"postgre://me:{CANARY}@h/d",
    f"oracle://me:{CANARY}@h/d",
    f"grpc://me:{CANARY}@h:13000",
    f"://me:{CANARY}@h/d",
    f"sqlite+pysqlcipher://:{CANARY}@/f.db",
    f"sqlite:///f.db?key={CANARY}",
    f"journal:///me:{CANARY}@h/d",
    f"https://me:{CANARY}@h/d",
)


@pytest.mark.parametrize("url", URLS)
def test_no_password_is_left_wherever_a_url_stands(url: str) -> None:
    texts = (
        mask_url(url),
        mask_credentials(url),
        mask_credentials(f"study.storage {url!r}: must have the form postgresql://USER:PASSWORD@HOST/DATABASE."),
        mask_credentials(f"cannot reach {url}: gone"),
        mask_credentials(f"[{url!r}, 1] is no text"),
        masked_command(["nas-search", f"study.storage={url}", f"storage='{url}'", url]),
        str(mask_settings({"study": {"storage": url}, "note": url, "several": [url]})),
        str(NasError(f"study.storage {url!r}: is wrong")),
    )
    assert [text for text in texts if CANARY in text] == []


@pytest.mark.parametrize("url", URLS)
def test_masking_twice_changes_nothing(url: str) -> None:
    once = mask_url(url)
    assert mask_url(once) == once and mask_credentials(once) == once


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///runs/a@b.db",
        "sqlite:////home/me/my runs/optuna.db?timeout=5",
        "journal:///x.journal",
        "grpc://host:13000",
        "grpc://[::1]:13000",
        "postgresql://host:5433/db?sslmode=require&connect_timeout=5",
        "postgresql://a:5432,b:5432/db",
        "mysql+pymysql://host/my-db",
        "postgresql://USER:PASSWORD@HOST/DATABASE",
        "https://hydra.cc/docs/1.3/advanced#top",
        "optuna.db",
        "null",
    ],
)
def test_harmless_parts_are_kept(url: str) -> None:
    assert mask_url(url) == url
    assert mask_credentials(f"in {url!r}, and {url}.") == f"in {url!r}, and {url}."


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("study.storage=postgresql://me:secret@host/db +space=x", "study.storage=postgresql://***@host/db +space=x"),
        ("mysql://me:s@cr:et@host/db", "mysql://***@host/db"),
        ("postgresql://host/db?user=me&password=s&x=1", "postgresql://host/db?user=***&password=***&***"),
        ("'postgres://me:a b@h/d': see grpc://HOST:PORT", "'postgres://***@h/d': see grpc://HOST:PORT"),
        ("bad dsn: host=h password=secret port=1", "bad dsn: host=h password=*** port=1"),
        ("denied for user 'me'@'h' (using password: YES)", "denied for user 'me'@'h' (using password: YES)"),
        ("conf/postgres//x and C:/x and kinetics/a:b@c", "conf/postgres//x and C:/x and kinetics/a:b@c"),
    ],
)
def test_the_rest_of_a_text_is_kept(text: str, shown: str) -> None:
    assert mask_credentials(text) == shown


def test_a_command_stays_one_for_the_shell() -> None:
    command = masked_command(["nas-search", "study.storage=postgres://me:a b@h/d", "data.root=my images"])
    assert shlex.split(command) == ["nas-search", "study.storage=postgres://***@h/d", "data.root=my images"]


def test_parts_of_a_password_that_a_driver_quotes_are_masked() -> None:
    url = "postgresql://me:pa%20ss@xx:9z/dd?passwd=w0rd"
    said = "invalid port '9z' of host 'xx' for me, pa ss, pa%20ss or w0rd; some message on dd"
    assert mask_reason(said, url) == "invalid port '***' of host '***' for ***, ***, *** or ***; some message on ***"
    assert mask_reason("no file runs/x.db", "sqlite:///runs/x.db") == "no file runs/x.db"
