"""Encryption is Open Task Framework's own: it works on the files that S3 gives and takes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gnupg  # type: ignore[import-untyped]  # opentaskpy brings it
import pytest
from anyio import to_thread
from opentaskpy.config.schemas import validate_transfer_json
from opentaskpy.taskhandlers.transfer import Transfer

from opentaskpy import exceptions
from tests.support.store import Store

pytestmark = [
    pytest.mark.usefixtures("otf", "short_staging"),
    pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed"),
]


@pytest.fixture
def short_staging(monkeypatch: pytest.MonkeyPatch, otf: None) -> Iterator[None]:  # noqa: ARG001
    """OTF keeps its keyring in there, and the path of an agent's socket may not be long."""
    directory = tempfile.mkdtemp(prefix="otf-")
    monkeypatch.setenv("OTF_STAGING_DIR", directory)
    yield
    shutil.rmtree(directory, ignore_errors=True)


class Keys:
    """A pair of keys, and what is needed to look into what OTF made."""

    def __init__(self, home: str) -> None:
        self.gpg = gnupg.GPG(gnupghome=home)
        asked = self.gpg.gen_key_input(
            key_type="RSA", key_length=2048, name_email="a@example.com", no_protection=True
        )
        made = self.gpg.gen_key(asked)
        self.public: str = self.gpg.export_keys(str(made))
        self.private: str = self.gpg.export_keys(str(made), secret=True, expect_passphrase=False)

    def decrypted(self, data: bytes) -> bytes:
        plain = self.gpg.decrypt(data)
        assert plain.ok, plain.status
        return bytes(plain.data)


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    home = tempfile.mkdtemp(prefix="gpg-")
    yield Keys(home)
    shutil.rmtree(home, ignore_errors=True)  # gpg's agent ends when its socket is gone


async def carried_out(source: dict[str, Any], *destination: dict[str, Any]) -> bool:
    definition = {"type": "transfer", "source": source, "destination": list(destination)}
    assert validate_transfer_json(definition)
    done: bool = await to_thread.run_sync(Transfer(None, "a-transfer", definition).run)
    return done


async def test_what_is_pushed_is_encrypted_and_signed(
    moto_s3: Store, tmp_path: Path, keys: Keys
) -> None:
    bucket = await moto_s3.bucket()
    (tmp_path / "a.txt").write_bytes(b"plain")
    encryption = {
        "encrypt": True,
        "public_key": keys.public,
        "sign": True,
        "private_key": keys.private,
    }
    assert await carried_out(
        {"directory": str(tmp_path), "fileRegex": "a", "protocol": {"name": "local"}},
        {"bucket": bucket, "protocol": moto_s3.protocol(), "encryption": encryption},
    )
    assert await moto_s3.keys(bucket) == ["a.txt.gpg"]
    assert keys.decrypted(await moto_s3.get(bucket, "a.txt.gpg")) == b"plain"
    assert await moto_s3.has_owner_acl(bucket, "a.txt.gpg")


async def test_what_is_pulled_is_decrypted_and_its_source_deleted(
    moto_s3: Store, tmp_path: Path, keys: Keys
) -> None:
    bucket = await moto_s3.bucket()
    secret = keys.gpg.encrypt(b"plain", keys.gpg.list_keys()[0]["fingerprint"], always_trust=True)
    await moto_s3.put(bucket, "src/a.txt.gpg", secret.data)
    assert await carried_out(
        {
            "bucket": bucket,
            "directory": "src",
            "fileRegex": ".*",
            "encryption": {"decrypt": True, "private_key": keys.private},
            "postCopyAction": {"action": "delete"},
            "protocol": moto_s3.protocol(),
        },
        {"directory": str(tmp_path), "protocol": {"name": "local"}},
    )
    assert (tmp_path / "a.txt").read_bytes() == b"plain"
    assert await moto_s3.keys(bucket) == []


async def test_a_proxied_copy_is_encrypted(moto_s3: Store, keys: Keys) -> None:
    one, two = [await moto_s3.bucket() for _ in range(2)]
    await moto_s3.put(one, "src/a.txt", b"plain")
    source = {
        "bucket": one,
        "directory": "src",
        "fileRegex": ".*",
        "postCopyAction": {"action": "move", "destination": "done/"},
        "protocol": moto_s3.protocol(),
    }
    there = {
        "bucket": two,
        "directory": "in",
        "encryption": {"encrypt": True, "public_key": keys.public, "output_extension": "pgp"},
        "protocol": moto_s3.protocol(),
    }
    with pytest.raises(exceptions.EncryptionNotSupportedError):
        await carried_out(dict(source), dict(there))
    assert await moto_s3.keys(two) == []
    assert await carried_out(source, {**there, "transferType": "proxy"})
    assert await moto_s3.keys(two) == ["in/a.txt.pgp"]
    assert keys.decrypted(await moto_s3.get(two, "in/a.txt.pgp")) == b"plain"
    assert await moto_s3.keys(one) == ["done/a.txt"]
