"""Session cookies, signed under a key that is stretched anew for every request."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

__all__ = ["COOKIE", "LIFETIME", "Signer", "rounds_for"]

COOKIE = "shop_session"
LIFETIME = 3600

_SAMPLE = 2000


def rounds_for(cost: float) -> int:
    """Rounds of PBKDF2 that take about ``cost`` seconds of this machine's CPU; at least 1.

    Measured in CPU time, so that a busy machine does not make it look slow.
    """
    if cost <= 0:
        return 1
    best = float("inf")
    for _ in range(3):
        started = time.thread_time()
        hashlib.pbkdf2_hmac("sha256", b"sample", b"sample", _SAMPLE)
        best = min(best, time.thread_time() - started)
    return max(1, round(cost / max(best, 1e-6) * _SAMPLE))


class Signer:
    """Issues and checks session cookies: ``session.rounds.expires.signature``.

    The rounds are in the cookie, so that a restarted gateway, which measures
    them anew, still honours the sessions of the one before.
    """

    def __init__(self, secret: str, rounds: int) -> None:
        self._secret = secret.encode()
        self._rounds = rounds

    def renew(self, cookie: str, now: float) -> tuple[str, str]:
        """The session that ``cookie`` proves, or a new one, and the cookie to send back.

        ``now`` is wall-clock time in seconds. A valid cookie costs one stretch of the
        key: it is checked and renewed under the same one.
        """
        parts = cookie.split(".")
        if len(parts) == 4 and self._plausible(parts[1], parts[2], now):
            session, rounds, expires, signature = parts
            key = self._key(session, int(rounds))
            if hmac.compare_digest(_sign(key, session, expires).encode(), signature.encode()):
                return session, self._issue(session, int(rounds), key, now)
        session = secrets.token_hex(12)
        return session, self._issue(session, self._rounds, self._key(session, self._rounds), now)

    def _plausible(self, rounds: str, expires: str, now: float) -> bool:
        digits = rounds + expires
        if not (digits.isascii() and digits.isdigit() and rounds and expires and len(digits) < 24):
            return False
        # A cookie of somebody's own making must not buy more work than ours cost.
        return 0 < int(rounds) <= 4 * self._rounds and int(expires) > now

    def _key(self, session: str, rounds: int) -> bytes:
        return hashlib.pbkdf2_hmac("sha256", self._secret, session.encode(), rounds)

    def _issue(self, session: str, rounds: int, key: bytes, now: float) -> str:
        expires = str(int(now) + LIFETIME)
        return f"{session}.{rounds}.{expires}.{_sign(key, session, expires)}"


def _sign(key: bytes, session: str, expires: str) -> str:
    return hmac.new(key, f"{session}.{expires}".encode(), hashlib.sha256).hexdigest()[:32]
