from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from nbkit.errors import KeyFileError
from nbkit.registry import load_key, new_key


def test_a_new_key_is_a_pkcs8_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    mask = os.umask(0o000)
    try:
        public = new_key("ana", directory=tmp_path / "home" / "keys")
    finally:
        os.umask(mask)
    path = tmp_path / "home" / "keys" / "ana.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert public.key_id.startswith("sha256:")
    assert len(public.raw) == 32


def test_a_loaded_key_signs_what_its_public_half_verifies(tmp_path: Path) -> None:
    public = new_key("ana", directory=tmp_path)
    key = load_key("ana", directory=tmp_path)
    assert (key.public, key.name, key.key_id) == (public, "ana", public.key_id)
    Ed25519PublicKey.from_public_bytes(public.raw).verify(key.sign(b"message"), b"message")


def test_the_secret_half_does_not_show_in_repr(tmp_path: Path) -> None:
    new_key("ana", directory=tmp_path)
    assert "secret" not in repr(load_key("ana", directory=tmp_path))


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    new_key("ana", directory=tmp_path)
    before = (tmp_path / "ana.pem").read_bytes()
    with pytest.raises(KeyFileError, match=r"exists already; a key is never overwritten\. Next: nbkit keys new ana-2"):
        new_key("ana", directory=tmp_path)
    assert (tmp_path / "ana.pem").read_bytes() == before


def test_a_link_in_the_place_of_a_new_key_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "ana.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match="exists already"):
        new_key("ana", directory=tmp_path)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["", "Ana", "../ana", "ana/b", "ana.pem", "аna", "a" * 64, "ana\n", "-ana"])
def test_a_name_that_is_not_plain_is_refused(name: str, tmp_path: Path) -> None:
    for call in (new_key, load_key):
        with pytest.raises(KeyFileError, match=r"key name: expected lower-case letters"):
            call(name, directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_key_inside_a_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    with pytest.raises(KeyFileError, match=r"lies inside the repository .* set NBKIT_HOME to a folder outside"):
        new_key("ana", directory=tmp_path / "deep" / "keys")
    assert not (tmp_path / "deep").exists()


def test_a_link_into_a_repository_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    (tmp_path / "keys").symlink_to(tmp_path / "repository")
    with pytest.raises(KeyFileError, match="lies inside the repository"):
        new_key("ana", directory=tmp_path / "keys")


def test_a_missing_key_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"ana\.pem: no such key\. Next: nbkit keys new ana"):
        load_key("ana", directory=tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o660, 0o400, 0o700, 0o4600])
def test_a_key_of_any_other_mode_is_refused(mode: int, tmp_path: Path) -> None:
    new_key("ana", directory=tmp_path)
    (tmp_path / "ana.pem").chmod(mode)
    with pytest.raises(KeyFileError, match=rf"expected mode 0600, got {mode:04o}\. Next: chmod 600"):
        load_key("ana", directory=tmp_path)


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    new_key("ana", directory=tmp_path)
    tmp_path.chmod(0o777)
    with pytest.raises(KeyFileError, match=r"others can write here \(mode 0777\)\. Next: chmod 700"):
        load_key("ana", directory=tmp_path)
    with pytest.raises(KeyFileError, match="others can write here"):
        new_key("ben", directory=tmp_path)
    tmp_path.chmod(0o700)


def test_a_link_to_a_key_is_not_followed(tmp_path: Path) -> None:
    new_key("ana", directory=tmp_path)
    (tmp_path / "ben.pem").symlink_to(tmp_path / "ana.pem")
    with pytest.raises(KeyFileError, match=r"ben\.pem: cannot be read"):
        load_key("ben", directory=tmp_path)


def test_a_pipe_in_the_place_of_a_key_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ana.pem", 0o600)
    with pytest.raises(KeyFileError, match="expected a regular file"):
        load_key("ana", directory=tmp_path)


def test_a_key_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    new_key("ana", directory=tmp_path)
    os.chown(tmp_path / "ana.pem", 65534, -1)
    with pytest.raises(KeyFileError, match="belongs to another user"):
        load_key("ana", directory=tmp_path)


def _rsa() -> bytes:
    key = generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _encrypted(tmp_path: Path) -> bytes:
    new_key("inner", directory=tmp_path)
    key = load_key("inner", directory=tmp_path).secret
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))


@pytest.mark.parametrize("kind", ["rsa", "encrypted", "garbage", "empty"])
def test_a_file_that_is_no_plain_ed25519_key_is_refused_without_quoting_it(kind: str, tmp_path: Path) -> None:
    contents = {"rsa": _rsa, "encrypted": lambda: _encrypted(tmp_path), "garbage": lambda: b"s3cret", "empty": bytes}
    path = tmp_path / "ana.pem"
    path.write_bytes(contents[kind]())
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="expected an unencrypted ed25519 private key in PKCS8 PEM") as caught:
        load_key("ana", directory=tmp_path)
    assert "s3cret" not in str(caught.value)
