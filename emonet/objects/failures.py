"""What obstore's errors mean to people: no credentials, bucket or permission, a service that is away."""

from __future__ import annotations

from emonet.errors import EmonetError, RequestError

_CREDENTIALS = {
    "s3": "export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... or AWS_PROFILE=...",
    "gs": "export GOOGLE_APPLICATION_CREDENTIALS=FILE.json",
    "az": "export AZURE_STORAGE_ACCOUNT_NAME=... AZURE_STORAGE_ACCOUNT_KEY=...",
}
# Text in obstore's errors, in the order in which it is looked for: machines without credentials are asked for the
# cloud's own, at addresses that only its machines can reach.
_NONE_FOUND = (
    "Missing AccessKeyId",
    "Missing SecretAccessKey",
    "Account must be",
    "169.254.",
    "metadata.google",
    "token request",
)
_REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "401 Unauthorized")
_NO_BUCKET = ("NoSuchBucket", "specified bucket does not exist", "ContainerNotFound", "InvalidBucketName")
_NOT_ALLOWED = ("403 Forbidden", "AccessDenied", "AllAccessDisabled", "AuthorizationFailure")
_ELSEWHERE = ("301 Moved", "PermanentRedirect", "AuthorizationHeaderMalformed")


def is_past_the_end(error: Exception) -> bool:
    """Whether a range begins behind the end of its object."""
    return "416 Range" in str(error) or "InvalidRange" in str(error)


def explained(error: Exception, doing: str, where: str) -> Exception:
    """The error to raise for one of obstore's.

    Args:
        error: what obstore raised.
        doing: `read`, `write`, `list` or `delete`.
        where: the object's URL.
    """
    text, kind = str(error), type(error).__name__
    about = _about(text, kind, doing, where)
    if about is not None:
        return about
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"there is no object {where}")
    if kind == "AlreadyExistsError":
        return FileExistsError(f"the object {where} already exists")
    if not isinstance(error, OSError) and not type(error).__module__.startswith("obstore"):
        return error  # a fault of ours
    hint = "try again: what is there stays; is the endpoint right, and can this machine reach it?"
    return EmonetError(f"the object store does not {doing} this", where=where, found=_brief(text), hint=hint)


def _about(text: str, kind: str, doing: str, where: str) -> RequestError | None:
    """Credentials, bucket and permission, where the request was wrong."""
    if _has(text, _NONE_FOUND):
        return RequestError(
            "there are no credentials for this object store", where=where, found=_brief(text), hint=_hint(where)
        )
    if _has(text, _REFUSED) or kind == "UnauthenticatedError":
        return RequestError(
            "the object store does not accept the credentials", where=where, found=_brief(text), hint=_hint(where)
        )
    if _has(text, _NO_BUCKET):
        return RequestError("there is no such bucket", where=where, hint="make it first, or name another one")
    if _has(text, _NOT_ALLOWED) or kind == "PermissionDeniedError":
        hint = f"credentials that may {doing} here, or another bucket"
        return RequestError(f"these credentials may not {doing} here", where=where, found=_brief(text), hint=hint)
    if _has(text, _ELSEWHERE):
        return RequestError(
            "the bucket is in another region", where=where, found=_brief(text), hint="export AWS_REGION=REGION"
        )
    if kind == "InvalidPathError":
        return RequestError("this cannot be the name of an object", where=where, found=_brief(text))
    return None


def _has(text: str, fragments: tuple[str, ...]) -> bool:
    return any(fragment in text for fragment in fragments)


def _hint(where: str) -> str:
    return _CREDENTIALS.get(where[:2], _CREDENTIALS["az"])


def _brief(text: str) -> str:
    """The first line; behind it stands how the library's structures look."""
    return text.split("\n\nDebug source", 1)[0].split("\n<", 1)[0].strip()
