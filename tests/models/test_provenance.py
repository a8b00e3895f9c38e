"""The C2PA manifest: signed and read where its library is, and said plainly where it is not."""

import datetime
import sys

import numpy as np
import pytest

from data_process.video import VideoWriter, probe
from models import provenance


@pytest.fixture
def video(tmp_path):
    with VideoWriter(tmp_path / "made.mp4", threads=1) as writer:
        for k in range(5):
            writer.write(np.full((48, 48, 3), 40 * k, np.uint8))
    return tmp_path / "made.mp4"


@pytest.fixture
def signer(tmp_path):
    """Files of a certificate chain, an authority's last, and of the key."""
    pytest.importorskip("cryptography", reason="pip install c2pa-python")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def name(text):
        parts = (x509.NameAttribute(oid, text) for oid in (x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME))
        return x509.Name(parts)

    def usage(**given):
        kinds = "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign"
        kinds += " crl_sign encipher_only decipher_only"
        return x509.KeyUsage(**dict.fromkeys(kinds.split(), False) | given)

    now, keys = datetime.datetime.now(datetime.UTC), [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    chain = b""
    for subject, own, authority in (("signer", keys[0], False), ("authority", keys[1], True)):
        made = x509.CertificateBuilder(name("authority"), name(subject), own.public_key(), x509.random_serial_number())
        made = made.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(9))
        made = made.add_extension(x509.BasicConstraints(authority, None), True)
        made = made.add_extension(usage(**{"key_cert_sign" if authority else "digital_signature": True}), True)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), False)
        made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[1].public_key()), False)
        if not authority:
            made = made.add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        chain += made.sign(keys[1], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "chain.pem").write_bytes(chain)
    (tmp_path / "key.pem").write_bytes(keys[0].private_bytes(*kind))
    return tmp_path / "chain.pem", tmp_path / "key.pem"


def test_a_signed_video_says_that_an_algorithm_made_it(video, signer):
    pytest.importorskip("c2pa", reason="pip install c2pa-python")
    assert provenance.read(video) is None
    provenance.sign(video, *signer)
    found = provenance.read(video)
    (actions,) = [a["data"]["actions"] for a in found["assertions"] if a["label"] == "c2pa.actions.v2"]
    assert actions[0]["digitalSourceType"].endswith("trainedAlgorithmicMedia")
    assert probe(video).n_frames == 5 and not list(video.parent.glob("*.part*"))


def test_a_wrong_key_leaves_the_video_as_it_was(video, signer):
    pytest.importorskip("c2pa", reason="pip install c2pa-python")
    before = video.read_bytes()
    with pytest.raises(provenance.ProvenanceError, match="the chain must allow"):
        provenance.sign(video, signer[1], signer[1])
    assert video.read_bytes() == before and not list(video.parent.glob("*.part*"))


def test_without_the_library_it_is_said_before_work_begins(video, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert provenance.read(video) is None
    with pytest.raises(provenance.ProvenanceError, match="pip install c2pa-python"):
        provenance.check("chain.pem", "key.pem")


def test_absent_files_are_named(monkeypatch):
    monkeypatch.setattr(provenance, "available", lambda: True)
    with pytest.raises(provenance.ProvenanceError, match="nowhere.pem"):
        provenance.check("nowhere.pem", __file__)
