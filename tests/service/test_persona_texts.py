import msgspec
import polars as pl

from personarank_dagster.service.messages import Persona
from personarank_dagster.service.persona_texts import TEXTS, PersonaTexts


def table(count: int) -> pl.DataFrame:
    ids = [f"i{n}_P1" for n in range(count)]
    return pl.DataFrame({"unique_persona_id": ids, **{name: [f"{name} {one} é" for one in ids] for name in TEXTS}})


def read(texts: PersonaTexts, ids: list[str]) -> list[Persona]:
    return [msgspec.json.decode(bytes(written), type=Persona) for written in texts.of(ids)]


def test_each_persona_is_found_by_its_id() -> None:
    texts = PersonaTexts(table(500))
    ids = [f"i{n}_P1" for n in (3, 499, 0, 3)]
    assert read(texts, ids) == [Persona(one, *(f"{name} {one} é" for name in TEXTS)) for one in ids]


def test_personas_that_are_not_there_have_their_id_alone() -> None:
    assert read(PersonaTexts(table(0)), ["a"]) == [Persona("a")]
    assert read(PersonaTexts(table(5)), ["a", ""]) == [Persona("a"), Persona("")]
