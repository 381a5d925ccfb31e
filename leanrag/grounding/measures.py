"""Words and signs of numbers: number words, bounds, units, months. Tables only; all words are in lower case."""

from __future__ import annotations

__all__ = [
    "BOUNDS",
    "BOUND_SIGNS",
    "MONTHS",
    "MULTIPLIERS",
    "NUMBER_WORDS",
    "ORDINALS",
    "SCRIPT_NUMERALS",
    "UNITS",
]

BOUNDS = {
    "atleast": r"""
        at least
        (?:no|not) (?:less|fewer|lower|earlier|younger) than
        (?:a )?minimum of
        not below|no sooner than
        mindestens|wenigstens|nicht (?:weniger|kürzer|jünger|kleiner) als
        au moins|au minimum|pas moins de
        al menos|por lo menos|como mínimo|no menos de
        almeno|non meno di|pelo menos|minstens|ten minste|не менее""",
    "atmost": r"""
        at (?:the )?most
        (?:no|not) (?:more|greater|higher|later|longer|older) than
        (?:a )?maximum of
        (?<!went )(?<!gone )(?<!goes )(?<!rose )(?<!risen )(?<!moved )(?<!climbed )up toNUMBER
        not exceeding|not above
        (?:(?:do|does|did|may|must|can|should|will|shall) )?not exceed
        höchstens|maximalNUMBER|bis zuNUMBER|nicht (?:mehr|länger|älter|größer) als
        au plus|au maximum|pas plus de
        como máximo|a lo sumo|no más de
        al massimo|non più di|no máximo|hoogstens|не более""",
    "morethan": r"""
        (?:more|greater|higher|longer|older) thanNUMBER
        (?:in excess of|exceed(?:s|ing|ed)?|over|above)NUMBER
        (?:mehr als|älter als|über|plus de|más de|sobre|più di|mais de|meer dan|более)NUMBER""",
    "lessthan": r"""
        (?:less|fewer|lower|shorter|younger) thanNUMBER
        (?:under|below)NUMBER
        (?:weniger als|jünger als|unter|moins de|menos de|bajo|meno di|minder dan|менее)NUMBER""",
    "ormore": r"""
        (?<=[\w%] )or (?:more|above|over|older|higher|later|greater)
        oder mehr|ou plus|o más|und älter""",
    "orless": r"""
        (?<=[\w%] )or (?:less|fewer|below|under|younger|lower|earlier|smaller)
        oder weniger|ou moins|o menos""",
}
"""The word that stands for a bound of a number, and patterns of the phrases that say so. NUMBER: a number must follow."""

BOUND_SIGNS = {"≥": "atleast", ">=": "atleast", "≤": "atmost", "<=": "atmost"}

NUMBER_WORDS: dict[str, float] = {
    word: value
    for value, words in {
        0: "zero null zéro cero",
        1: "eins uno",
        2: "two zwei deux dos due dois twee два",
        3: "three drei trois tres tre três drie три",
        4: "four vier quatre cuatro quattro quatro четыре",
        5: "five fünf cinq cinco cinque vijf пять",
        6: "six sechs seis sei zes шесть",
        7: "seven sieben sept siete sette sete zeven семь",
        8: "eight acht huit ocho otto oito восемь",
        9: "nine neun neuf nueve nove negen девять",
        10: "ten zehn dix diez dieci dez tien десять",
        11: "eleven elf onze once undici",
        12: "twelve zwölf douze doce dodici twaalf",
        13: "thirteen dreizehn treize trece",
        14: "fourteen vierzehn quatorze catorce",
        15: "fifteen fünfzehn quinze quince",
        16: "sixteen sechzehn seize dieciséis",
        17: "seventeen siebzehn",
        18: "eighteen achtzehn",
        19: "nineteen neunzehn",
        20: "twenty zwanzig vingt veinte venti vinte twintig",
        30: "thirty dreißig trente treinta trenta trinta",
        40: "forty vierzig quarante cuarenta quaranta",
        50: "fifty fünfzig cinquante cincuenta cinquanta",
        60: "sixty sechzig soixante sesenta",
        70: "seventy siebzig setenta",
        80: "eighty achtzig ochenta",
        90: "ninety neunzig noventa",
    }.items()
    for word in words.casefold().split()
}

ORDINALS: dict[str, int] = {
    word: i
    for i, words in enumerate(
        """first erste ersten erster|second zweite zweiten deuxième segunda|third dritte dritten troisième tercera tercer
        |fourth vierte vierten quatrième|fifth fünfte cinquième|sixth sechste
        |seventh siebte|eighth achte|ninth neunte|tenth zehnte|eleventh|twelfth""".split("|"),
        1,
    )
    for word in words.split()
}

MULTIPLIERS: dict[str, float] = {
    word: value
    for value, words in {
        12: "dozen dozens dutzend douzaine docena",
        100: "hundred hundreds hundert cent cien",
        1e3: "thousand thousands tausend mille mil",
        1e4: "万 萬 만",
        1e5: "lakh लाख",
        1e6: "million millions millionen mio millón millones milione milioni milhões",
        1e7: "crore करोड़",
        1e8: "亿 億 억",
        1e9: "billion billions bn milliarde milliarden mrd milliard milliards",
        1e12: "trillion trillions billionen",
    }.items()
    for word in words.split()
}

UNITS: dict[str, tuple[str, float]] = {
    name: (dimension, factor)
    for dimension, scale in {
        "length": {
            0.001: "mm millimetre millimetres millimeter millimeters",
            0.01: "cm centimetre centimetres centimeter centimeters zentimeter centímetros 厘米",
            1.0: "m metre metres meter meters metern mètre mètres metro metros metri 米 メートル",
            1000.0: "km kilometre kilometres kilometer kilometers kilometern kilomètre kilomètres 公里 千米",
            0.0254: "inch inches zoll",
            0.3048: "ft foot feet",
            0.9144: "yd yard yards",
            1609.344: "mi mile miles meilen",
            1e-6: "µm micrometre micrometer",
            1e-9: "nm nanometre nanometer",
        },
        "mass": {
            1e-6: "mg milligram milligrams milligramm",
            1e-9: "µg mcg microgram micrograms",
            0.001: "g gram grams gramm gramme grammes gramos",
            1.0: "kg kilogram kilograms kilo kilos kilogramm kilogrammes kilogramos 公斤 千克",
            1000.0: "t tonne tonnes ton tons tonnen toneladas 吨",
            0.45359237: "lb lbs pound_mass",
            0.028349523: "oz ounce ounces",
        },
        "time": {
            0.001: "ms millisecond milliseconds millisekunden",
            1.0: "s sec secs second seconds sekunde sekunden seconde secondes segundo segundos 秒",
            60.0: "min mins minute minutes minuten minuto minutos 分钟",
            3600.0: "h hr hrs hour hours stunde stunden heure heures hora horas 小时 時間",
            86400.0: "d day days tag tage tagen jour jours día días 天",
            604800.0: "week weeks woche wochen semaine semaines semana semanas 周",
            2629746.0: "month months monat monate monaten mois mes meses 个月",
            31556952.0: "yr yrs year years jahr jahre jahren an ans année années año años 年",
        },
        "volume": {
            1e-6: "ml millilitre millilitres milliliter milliliters",
            0.001: "l litre litres liter liters litern litro litros 升",
            0.00378541: "gallon gallons gal",
            0.01: "cl_volume",
            1.0: "m3 m³",
        },
        "area": {1.0: "m2 m²", 1e6: "km2 km²", 1e4: "ha hectare hectares hektar", 4046.86: "acre acres"},
        "data": {
            1.0: "bytes byte",
            1e3: "kb kilobyte kilobytes",
            1e6: "mb megabyte megabytes",
            1e9: "gb gigabyte gigabytes",
            1e12: "tb terabyte terabytes",
            2.0**10: "kib kibibyte kibibytes",
            2.0**20: "mib mebibyte mebibytes",
            2.0**30: "gib gibibyte gibibytes",
            2.0**40: "tib tebibyte tebibytes",
        },
        "celsius": {1.0: "°c celsius 摄氏度 °celsius"},
        "fahrenheit": {1.0: "°f fahrenheit"},
        "kelvin": {1.0: "kelvin"},
        "angle": {1.0: "° degree degrees grad degrés grados"},
        "speed": {1.0: "km/h kmh kph", 1.609344: "mph", 3.6: "m/s"},
        "power": {
            1.0: "w watt watts",
            1e3: "kw kilowatt kilowatts",
            1e6: "megawatt megawatts",
            735.5: "ps",
            745.7: "hp horsepower",
        },
        "energy": {1.0: "kwh", 1000.0: "mwh", 2.7778e-7: "joule joules", 0.001163: "kcal calories"},
        "voltage": {1.0: "v volt volts", 1e3: "kv", 1e-3: "mv"},
        "current": {1.0: "ampere amperes amp amps", 0.001: "ma milliamps"},
        "frequency": {1.0: "hz hertz", 1e3: "khz", 1e6: "mhz megahertz", 1e9: "ghz gigahertz"},
        "pressure": {1.0: "bar bars", 0.001: "mbar", 1e-5: "pa", 0.01: "kpa", 0.0689476: "psi"},
        "percent": {1.0: "% percent prozent pct pourcent 百分之"},
        "points": {1.0: "points_percent"},
        "usd": {1.0: "$ usd dollar dollars us$ dólares", 0.01: "cent cents"},
        "eur": {1.0: "€ eur euro euros"},
        "gbp": {1.0: "£ gbp pound pounds"},
        "jpy": {1.0: "¥ jpy yen 円"},
        "cny": {1.0: "cny rmb yuan 元"},
        "chf": {1.0: "chf franken francs franc"},
        "inr": {1.0: "₹ inr rupee rupees"},
    }.items()
    for factor, names in scale.items()
    for name in names.split()
}
"""A unit's dimension and its size in the dimension's first unit; currencies are dimensions."""

MONTHS: dict[str, int] = {
    name: i
    for i, names in enumerate(
        """january jan januar jänner janvier janv enero ene gennaio janeiro januari января янв
        |february feb februar février févr febrero febr febbraio fevereiro februari февраля фев февр
        |march mar märz mars marzo março maart марта|april apr avril avr abril abr aprile апреля апр
        |may mai mayo maggio maio mei мая|june jun juni juin junio giugno junho июня
        |july jul juli juillet juil julio luglio julho июля|august aug août agosto augustus августа авг
        |september sep sept septembre septiembre settembre setembro сентября сент
        |october oct oktober okt octobre octubre ottobre outubro октября окт
        |november nov novembre noviembre novembro ноября нояб
        |december dec dezember dez décembre déc diciembre dic dicembre dezembro декабря дек""".split("|"),
        1,
    )
    for name in names.split()
}

SCRIPT_NUMERALS = {character: value for value, character in enumerate("〇一二三四五六七八九")} | {
    "零": 0,
    "两": 2,
    "兩": 2,
    "十": 10,
    "百": 100,
    "千": 1000,
}
