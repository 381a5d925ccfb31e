"""Words by which two questions differ: English, with the commonest words of German, French, Spanish and Italian."""

from __future__ import annotations

__all__ = [
    "DIRECTIONS",
    "FUNCTION",
    "LISTING",
    "NEGATIONS",
    "NUMBER_WORDS",
    "OPENINGS",
    "OPPOSITES",
    "POINTERS",
    "PREFIXES",
    "QUESTION_WORDS",
    "TIMES",
    "UNITS",
]


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


NEGATIONS = _set(
    "not no never none nobody nothing nowhere neither nor without cannot except unless hardly barely lack lacks"
    " lacking fail fails failed refuse refuses stop stops unable nicht kein keine keinen keiner nie niemals ohne weder"
    " pas jamais sans aucun aucune nunca sin ningún ninguna jamás non mai senza nessun"
)
PREFIXES = ("un", "in", "im", "il", "ir", "dis", "non", "mis", "de", "anti")
QUESTION_WORDS = _set(
    "who whom whose what when where why how which wer wen wem wessen was wann wo warum weshalb wie welche welcher"
    " welches qui que quoi quand où pourquoi comment combien quel quelle quién qué cuándo dónde cómo cuánto cuál chi"
    " cosa quando dove perché come quanto"
)
NUMBER_WORDS = _set(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion half"
    " quarter double triple twice once first second third fourth fifth sixth seventh eighth ninth tenth last"
)
TIMES = _set(
    "january february march april june july august september october november december monday tuesday wednesday"
    " thursday friday saturday sunday spring summer autumn winter today tomorrow yesterday tonight now currently"
    " weekly monthly yearly daily hourly annual annually morning evening noon midnight"
)
UNITS = _set(
    "mm cm km inch inches foot feet yard yards mile miles metre metres meter meters kilometre kilometres kilometer"
    " kilometers mg kg gram grams kilogram kilograms pound pounds ounce ounces ton tons tonne tonnes ml litre"
    " litres liter liters gallon gallons second seconds minute minutes hour hours day days week weeks month months"
    " year years decade decades century byte bytes kb mb gb tb kib mib gib bit bits hz khz mhz ghz watt watts kw kwh"
    " volt volts amp amps joule joules celsius fahrenheit kelvin degree degrees percent dollar dollars euro euros eur"
    " usd gbp yen cent cents"
)
DIRECTIONS = _set(
    "than from to into before after over under since until versus vs against by with beats beat above below"
)
OPPOSITES = {
    frozenset(pair.split("/"))
    for pair in (
        "and/or und/oder et/ou more/less more/fewer most/least larger/smaller bigger/smaller largest/smallest biggest/smallest"
        " greater/lesser higher/lower highest/lowest longer/shorter longest/shortest taller/shorter older/younger"
        " older/newer oldest/newest oldest/youngest faster/slower fastest/slowest cheaper/dearer cheapest/dearest"
        " better/worse best/worst earlier/later earliest/latest first/last before/after above/below over/under"
        " up/down in/out on/off into/from start/end start/stop begin/end open/close increase/decrease raise/lower"
        " minimum/maximum min/max buy/sell import/export allow/forbid allowed/forbidden enable/disable"
        " enabled/disabled add/remove insert/delete include/exclude accept/reject win/lose won/lost gain/loss"
        " gain/lose profit/loss with/without inside/outside input/output upload/download encode/decode"
        " encrypt/decrypt push/pull read/write send/receive ask/answer employer/employee teacher/student"
        " parent/child husband/wife male/female man/woman men/women boy/girl north/south east/west left/right"
        " top/bottom front/back hot/cold warm/cool day/night day/week week/month month/year birth/death born/died"
        " public/private legal/illegal possible/impossible safe/unsafe true/false yes/no always/never all/none"
        " all/some any/all many/few much/little deposit/withdraw arrive/depart arrival/departure enter/leave"
        " lend/borrow mother/father son/daughter brother/sister lock/unlock install/uninstall load/unload"
        " connect/disconnect subscribe/unsubscribe"
    ).split()
}
FUNCTION = _set(
    "a an the is are was were be been being am do does did done doing have has had having will would shall should can"
    " could may might must of in on at to for from by with about as it its this that these those there here i you he"
    " she we they me my your his her our their them him us and or if so then also just very really please tell know"
    " explain describe give show find want need get got make made some any much many more most into than how what when"
    " where why who whom whose which"
)
LISTING = _set("and or between")
POINTERS = _set(
    "it he she they them him her this that these those its his their one ones former latter same such there"
)
OPENINGS = (
    "and ",
    "but ",
    "or ",
    "what about",
    "how about",
    "why not",
    "so ",
    "then ",
    "what else",
    "anything else",
    "also ",
    "und ",
    "et ",
    "y ",
)
