"""What may stand in `prepare.yaml`: the language model's server, and what it may cost."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from personarank_dagster.configuration.settings import Count, Flag, FolderPath, PositiveInt, Rating, Share

ServerAddress = Annotated[
    str, Meta(pattern=r"^https?://[^/\s@]+(/\S*)?$", description="an address such as http://127.0.0.1:8000/v1")
]
LanguageModel = Annotated[str, Meta(min_length=1, description="the name that the server has for the model")]
VariableName = Annotated[
    str, Meta(pattern=r"^[A-Z_][A-Z0-9_]*$", description="the name of an environment variable, like OPENAI_API_KEY")
]
SamplingTemperature = Annotated[float, Meta(ge=0, le=2, description="a number in [0, 2]")]
Price = Annotated[float, Meta(ge=0, le=10_000, description="dollars for a million tokens, from 0 to 10000")]
Dollars = Annotated[float, Meta(gt=0, le=10**6, description="dollars in (0, 10^6]")]
Tokens = Annotated[int, Meta(ge=256, le=10**7, description="a whole number of tokens from 256 to 10^7")]
TokenBudget = Annotated[int, Meta(ge=1, le=10**12, description="a whole number of tokens from 1 to 10^12")]
InFlight = Annotated[int, Meta(ge=1, le=1024, description="a whole number from 1 to 1024")]
Attempts = Annotated[int, Meta(ge=0, le=20, description="a whole number from 0 to 20")]
NumPersonas = Annotated[int, Meta(ge=1, le=20, description="a whole number from 1 to 20")]
TokenizerPath = Annotated[
    Path, Meta(description="the path of a tokenizer.json, or of the folder of a model that holds one")
]
Day = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$", description="a day, like 2018-07-01")]


class PrepareConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`prepare.yaml`, which only a dataset with `raw_reviews` has.

    `budget_*` count everything that was ever asked for the dataset. `temperature`, `seed`, `max_tokens`, server and
    model belong to an answer: with another one it is asked for again. `tokens_per_second`, of all answers together,
    is for the time in a dry run; `tokenizer`, the model's, counts the tokens of prompts.
    """

    base_url: ServerAddress
    model: LanguageModel
    api_key_env: VariableName | None = None
    temperature: SamplingTemperature = 0.0
    seed: Count = 13
    max_tokens: Tokens = 1024
    context_tokens: Tokens = 8192
    concurrency: InFlight = 8
    timeout_seconds: PositiveInt = 120
    retries: Attempts = 6
    repairs: Attempts = 2
    price_in: Price = 0.0
    price_out: Price = 0.0
    tokens_per_second: PositiveInt | None = None
    tokenizer: TokenizerPath | None = None
    budget_tokens: TokenBudget | None = None
    budget_usd: Dollars | None = None
    max_bad_share: Share = 0.05
    mask_contacts: Flag = True
    prompts: FolderPath | None = None
    min_rating: Rating = 4.0
    as_of: Day | None = None
    k_core: Count = 0
    min_personas: NumPersonas = 2
    max_personas: NumPersonas = 7
