"""Which secret keys are refused at the start."""

import random
import secrets
import string

import pytest

from app.config.secret import MIN_BITS, check_secret, secret_bits

GUESSABLE = [
    "k" * 64,
    "change-me-" * 4,
    "passwordpasswordpasswordpassword",
    "0123456789" * 4,
    "0123456789abcdefghijklmnopqrstuvwxyz",
    string.ascii_lowercase + string.digits,
    string.ascii_letters[::-1],
    "abab" * 20,
    "1234567890123456789012345678901234567890123456789012345678901234",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
    "secretsecretsecretsecretsecretsecretsecret",
    " " * 40,
]


@pytest.mark.parametrize("secret", GUESSABLE)
def test_a_guessable_secret_is_refused_without_repeating_it(secret):
    with pytest.raises(ValueError, match=r"^looks guessable; make one with: python -c") as refused:
        check_secret(secret)
    assert secret not in str(refused.value)


@pytest.mark.parametrize("secret", ["", "x", "9f86d081884c7d659a2feaa0c55ad0"])
def test_a_short_secret_is_refused(secret):
    with pytest.raises(ValueError, match=r"^needs at least 32 characters"):
        check_secret(secret)


def test_a_random_secret_is_accepted_however_it_is_written():
    draw = random.Random(7)
    for _ in range(500):
        value = draw.getrandbits(128)
        assert secret_bits(f"{value:032x}") >= MIN_BITS
        check_secret("".join(draw.choices(string.ascii_letters, k=32)))
        check_secret(secrets.token_urlsafe(32))
