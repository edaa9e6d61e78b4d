"""Every error a user can cause, in one tree.

    PersonarankError
    ├── ConfigError     a YAML file or setting breaks a rule
    ├── InputError      a raw file cannot be read as what it should be
    ├── ContractError   a result breaks its contract, so it is not published
    ├── StorageError    a managed output is missing, damaged or cannot be written
    └── EncoderError    an encoder is missing, damaged or cannot be used

Each message is one line a problem: thing, rule, value, place, remedy.
"""


class PersonarankError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(PersonarankError):
    """A YAML file or a setting breaks a rule."""


class InputError(PersonarankError):
    """A raw file cannot be read as what it should be."""


class ContractError(PersonarankError):
    """A result breaks its contract, so it is not published."""


class StorageError(PersonarankError):
    """A managed output is missing, damaged or cannot be written."""


class EncoderError(PersonarankError):
    """An encoder is missing, damaged or cannot be used."""
