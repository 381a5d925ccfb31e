"""Names that the generators draw from."""

from __future__ import annotations

import random

__all__ = ["CITIES", "GIVEN_NAMES", "SURNAMES", "near_codes", "people"]

GIVEN_NAMES = (
    "Amina Anders Aylin Beatriz Bogdan Carmen Chidi Dario Eilidh Elena Farid Fiona Goran Hana Henrik Ines Ivo Jamal Joana "
    "Kenji Klara Lars Leila Lucia Mateo Mei Milan Nadia Niamh Noor Oskar Paula Pedro Priya Rafael Rosa Samira Sofia Stefan "
    "Tariq Teresa Tomas Ulrike Vera Viktor Wanjiru Yara Yusuf Zofia"
).split()
SURNAMES = (
    "Abebe Almeida Andersson Baumann Bergstrom Castillo Chen Dimitrov Duarte Eriksen Farouk Ferrari Fischer Garcia Grant "
    "Haddad Hansen Horvat Ibrahim Ito Jansen Kaya Keller Kowalski Kumar Larsen Lindqvist Lopez Marino Mensah Moreau Murphy "
    "Nakamura Novak Okafor Olsen Park Petrov Popescu Quinn Rahman Rossi Santos Schmidt Silva Tanaka Varga Weber Yilmaz Zhou"
).split()
CITIES = (
    "Aarhus Almeria Antwerp Bergen Bilbao Bologna Brno Cork Dresden Eindhoven Espoo Galway Gdansk Ghent Girona Graz Haarlem "
    "Izmir Kaunas Kosice Leeds Leuven Lille Linz Lublin Malmo Maribor Nantes Narvik Odense Ostrava Parma Patras Pecs Plovdiv "
    "Porto Rennes Riga Rijeka Salzburg Split Tampere Tartu Trieste Turku Uppsala Utrecht Varna Vigo Zadar"
).split()


def people(source: random.Random, count: int) -> list[str]:
    """Return `count` full names; no two share a given name or a surname."""
    given, surnames = source.sample(GIVEN_NAMES, count), source.sample(SURNAMES, count)
    return [f"{first} {last}" for first, last in zip(given, surnames, strict=True)]


def near_codes(source: random.Random, prefix: str, count: int, *, digits: int = 4) -> list[str]:
    """Return `count` part numbers that are easily confused: neighbours, and the same digits in another order."""
    codes: dict[str, None] = {}
    while len(codes) < count:
        number = str(source.randrange(10 ** (digits - 1), 10**digits))
        swapped = number[:-2] + number[-1] + number[-2]
        following = str(int(number) + 1).zfill(digits)[-digits:]
        codes |= dict.fromkeys(f"{prefix}-{value}" for value in (number, swapped, following))
    return list(codes)[:count]
