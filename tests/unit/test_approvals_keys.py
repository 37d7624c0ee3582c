"""What signatures and allowed_signers lines are read as, down to the byte."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statehub_plan.approvals.ssh import NAMESPACE
from statehub_plan.signatures.signers import parse_signers
from statehub_plan.signatures.sshsig import SshSignature, read_signature, weakness_of, weakness_of_key


def string(data: bytes) -> bytes:
    """A length and the bytes (RFC 4251)."""
    return len(data).to_bytes(4) + data


ED25519 = string(b"ssh-ed25519") + string(b"k" * 32)
SECURITY_KEY = string(b"sk-ssh-ed25519@openssh.com") + string(b"k" * 32) + string(b"ssh:")


def rsa(bits: int) -> bytes:
    """An RSA public key whose modulus has `bits` bits."""
    modulus = (1 << bits - 1) + 1
    return string(b"ssh-rsa") + string(b"\x01\x00\x01") + string(modulus.to_bytes(bits // 8 + 1))


def blob(
    key: bytes = ED25519,
    algorithm: bytes = b"ssh-ed25519",
    *,
    namespace: bytes = NAMESPACE.encode(),
    reserved: bytes = b"",
    hashed: bytes = b"sha512",
    version: int = 1,
    flags: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    """The bytes of a signature as ssh-keygen writes them, but for what is given."""
    inner = string(algorithm) + string(b"s" * 64) + flags
    return b"SSHSIG" + version.to_bytes(4) + b"".join(map(string, (key, namespace, reserved, hashed, inner))) + tail


def armored(data: bytes) -> str:
    """The bytes in OpenSSH's armor."""
    text = base64.b64encode(data).decode()
    return f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n"


def read(data: bytes) -> SshSignature:
    """The signature in these bytes."""
    return read_signature(armored(data))


def test_a_signature_is_read_and_written_back_byte_for_byte() -> None:
    """What is verified is what was read, whatever the armor looked like."""
    signature = read(blob())
    assert ("ssh-ed25519", NAMESPACE, "ssh-ed25519", None) == (
        signature.key_type,
        signature.namespace,
        signature.algorithm,
        signature.flags,
    )
    assert signature == read_signature(signature.armored)
    assert weakness_of(signature, NAMESPACE) is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (blob(algorithm=b"ssh-rsa", key=rsa(3072)), "ssh-rsa, which is refused"),
        (blob(algorithm=b"rsa-sha2-512", key=rsa(2047)), "2047 bits"),
        (blob(algorithm=b"ssh-dss", key=string(b"ssh-dss") + string(b"p")), "ssh-dss are refused"),
        (blob(algorithm=b"ssh-ed25519", key=rsa(3072)), "which is refused"),
        (blob(namespace=b"git"), "'git'"),
        (blob(key=string(b"ssh-ed25519-cert-v01@openssh.com") + string(b"x")), "certificate"),
        (blob(SECURITY_KEY, b"sk-ssh-ed25519@openssh.com", flags=b"\x00" + b"\0" * 4), "nobody touched"),
        (blob(SECURITY_KEY, b"sk-ssh-ed25519@openssh.com", flags=b"\x04" + b"\0" * 4), "nobody touched"),
    ],
)
def test_signatures_that_ssh_keygen_could_accept_are_weak_here(data: bytes, expected: str) -> None:
    """SHA-1, short RSA, DSA, certificates, other purposes, untouched security keys: each is named."""
    assert expected in str(weakness_of(read(data), NAMESPACE))


@pytest.mark.parametrize(
    ("data", "weak"),
    [
        (blob(algorithm=b"rsa-sha2-512", key=rsa(2048)), False),
        (blob(algorithm=b"rsa-sha2-256", key=rsa(4096)), False),
        (blob(SECURITY_KEY, b"sk-ssh-ed25519@openssh.com", flags=b"\x01" + b"\0" * 4), False),
    ],
)
def test_sound_signatures_are_not_weak(data: bytes, weak: bool) -> None:
    """RSA from 2048 bits on with SHA-2, and a security key that was touched."""
    assert weak == (weakness_of(read(data), NAMESPACE) is not None)


@pytest.mark.parametrize(
    "data",
    [
        blob(version=2),
        blob(reserved=b"x"),
        blob(hashed=b"sha1"),
        blob(tail=b"\0"),
        blob(flags=b"\x01\0\0\0\0"),
        blob(SECURITY_KEY, b"sk-ssh-ed25519@openssh.com"),
        blob(namespace=b"\xff"),
        b"SSHKEY" + blob()[6:],
        *(blob()[:length] for length in range(0, len(blob()), 7)),
    ],
)
def test_anything_but_one_whole_signature_is_refused(data: bytes) -> None:
    """Unknown versions and options, bytes too many and bytes too few."""
    with pytest.raises(ValueError):
        read(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
        armored(blob()).replace("=", "*", 1) if "=" in armored(blob()) else "x",
        armored(blob()) + armored(blob()),
        "x" + armored(blob()),
        armored(b"x" * 20_000),
    ],
)
def test_armor_is_exact(text: str) -> None:
    """One signature, nothing around it, of a sane size."""
    with pytest.raises(ValueError):
        read_signature(text)


@given(st.binary(max_size=200), st.integers(0, 150))
def test_no_bytes_are_read_as_anything_else_than_a_signature_or_a_refusal(junk: bytes, at: int) -> None:
    """Whatever stands in a file, reading it ends in a value or a ValueError."""
    data = blob()[:at] + junk
    with contextlib.suppress(ValueError):
        assert read(data) == read_signature(read(data).armored)


def test_a_line_is_one_name_and_one_key() -> None:
    """Comments and blank lines pass; order, options and line numbers are kept."""
    key, other = base64.b64encode(ED25519).decode(), base64.b64encode(SECURITY_KEY).decode()
    text = (
        f"# team\n\nalice@ops ssh-ed25519 {key} laptop of alice\n"
        f'  bob@ops namespaces="a,b",valid-before="20300101Z"  sk-ssh-ed25519@openssh.com {other}\n'
    )
    signers, problems = parse_signers(text)
    assert () == problems
    assert [("alice@ops", "", 3), ("bob@ops", 'namespaces="a,b",valid-before="20300101Z"', 4)] == [
        (each.principal, each.options, each.line) for each in signers
    ]
    assert f"alice@ops ssh-ed25519 {key}\n" == signers[0].entry


def test_every_bad_line_is_reported_at_once() -> None:
    """A person corrects the file once, not line by line."""
    key = base64.b64encode(ED25519).decode()
    lines = ["*@ops", '"a b"', "x,y", "!z", "a", "b ssh-ed25519", f"c ssh-ed25519 {key}x", f"d ssh-dss {key}"]
    _, problems = parse_signers("\n".join(f"{line} ssh-ed25519 {key}" if " " not in line else line for line in lines))
    numbers = [int(problem.partition(":")[0]) for problem in problems]
    assert [1, 2, 3, 4, 6, 7, 8] == numbers


@given(st.text(max_size=200))
def test_no_text_is_read_as_a_signer_by_accident(text: str) -> None:
    """Lines without a sound key give problems or nothing, never a signer, never a crash."""
    signers, _ = parse_signers(text)
    assert () == signers


def test_the_weakness_of_a_key_is_known_without_a_signature() -> None:
    """So that it is refused in the file already."""
    assert weakness_of_key(ED25519) is None
    assert "1024 bits" in str(weakness_of_key(rsa(1024)))
    with pytest.raises(ValueError):
        weakness_of_key(b"")
