"""C2PA manifest: a signed statement inside the file that a video was made by an algorithm. Optional; the invisible mark needs none of it.

    sign("out.mp4", "chain.pem", "key.pem")      # pip install c2pa-python; certificate and key are the user's own
    read("out.mp4")                              # the statement as a dict, or None

The certificate chain (PEM, the signer's first, the authority's after it) must allow e-mail protection or document signing, as C2PA
asks; viewers call it trusted if they know the authority. What re-encoding strips the manifest from, the mark of `models.mark` stays in.
"""

import json
import os
from pathlib import Path

MADE_BY_ALGORITHM = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"  # IPTC's term
ALGORITHMS = {"es256": "ES256", "es384": "ES384", "ps256": "PS256", "ed25519": "ED25519"}


class ProvenanceError(ValueError):
    """A manifest that cannot be made or read."""


def available():
    """Whether the library is installed."""
    try:
        import c2pa  # noqa: F401
    except (ImportError, OSError):  # a wheel of another platform fails at loading its library
        return False
    return True


def manifest(title):
    """What is stated of a video."""
    action = {"action": "c2pa.created", "digitalSourceType": MADE_BY_ALGORITHM, "softwareAgent": {"name": "Idiolect"}}
    return {
        "claim_generator_info": [{"name": "Idiolect"}],
        "title": title,
        "format": "video/mp4",
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }


def check(chain, key):
    """Say before the work begins what signing at its end would lack."""
    if not available():
        raise ProvenanceError("a C2PA manifest needs its library: pip install c2pa-python")
    absent = [str(path) for path in (chain, key) if not Path(path).is_file()]
    if absent:
        raise ProvenanceError(f"{', '.join(absent)}: no such file: a certificate chain and its key are needed (PEM)")


def sign(path, chain, key, algorithm="es256"):
    """Put a signed manifest into an mp4 file, aside first. chain, key: PEM files; algorithm: of the key, one of ALGORITHMS."""
    check(chain, key)
    if algorithm not in ALGORITHMS:
        raise ProvenanceError(f"algorithm {algorithm!r} came, there is {', '.join(ALGORITHMS)}: use one of these names")
    import c2pa

    path = Path(path)
    part = path.with_name(path.name + ".part.mp4")
    try:
        # no time-stamp authority: nothing is sent anywhere
        info = c2pa.C2paSignerInfo(
            getattr(c2pa.C2paSigningAlg, ALGORITHMS[algorithm]), Path(chain).read_bytes(), Path(key).read_bytes(), None
        )
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(manifest(path.name))) as builder:
            builder.sign_file(path, part, signer)
        os.replace(part, path)
    except (c2pa.C2paError, OSError) as error:
        part.unlink(missing_ok=True)
        raise ProvenanceError(
            f"{path}: no C2PA manifest could be signed with {chain} and {key} ({error}): the chain must allow e-mail "
            "protection and end with its authority, the key must be of its first certificate"
        ) from error
    return path


def read(path):
    """The manifest in a file as a dict, or None where there is none or the library is absent."""
    if not available():
        return None
    import c2pa

    try:
        with c2pa.Reader(path) as reader:
            found = json.loads(reader.json())
    except c2pa.C2paError:
        return None
    return found["manifests"].get(found.get("active_manifest"))
