"""Words that decide whether two sentences say the same: negations, opposites, quantities, synonyms. Tables only.

All words are case folded, as those of a sentence are. English comes first, then the words of other languages.
"""

from __future__ import annotations

__all__ = [
    "AGREEMENTS",
    "ALL",
    "ALLOWED",
    "ANAPHORS",
    "ARTICLES",
    "AUXILIARIES",
    "BY",
    "CLASSES",
    "CLASS_WORDS",
    "COMPLEMENTS",
    "CONTRACTIONS",
    "CONTRASTS",
    "CONVERSES",
    "COPULAS",
    "DECIMAL_COMMA_WORDS",
    "ENGLISH_CONTENT",
    "EXCEPTIONS",
    "FRAME_WORDS",
    "GERMAN_WORDS",
    "HEDGES",
    "INTENTIONS",
    "IRREGULAR",
    "NAME_QUESTIONS",
    "NEGATIONS",
    "OBLIGATIONS",
    "ONLY",
    "PARTICLES",
    "PERMISSIONS",
    "PERSPECTIVES",
    "POSSIBILITIES",
    "PREPOSITIONS",
    "RECOMMENDATIONS",
    "SOME",
    "SYMMETRIC",
    "SYNONYMS",
    "UNTRUTHS",
    "WISHES",
    "WITHOUT",
]


def _set(text: str) -> frozenset[str]:
    return frozenset(text.casefold().split())


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((left, right) for left, right in (pair.split("/") for pair in text.casefold().split()))


# ------------------------------------------------------------------------------------------------ spelling

CONTRACTIONS = (
    (r"\bcan'?t\b|\bcannot\b", "can not"),
    (r"\bwon't\b", "will not"),
    (r"\bshan't\b", "shall not"),
    (r"\bain't\b", "is not"),
    (r"n't\b", " not"),
    (r"'re\b", " are"),
    (r"'ll\b", " will"),
    (r"'ve\b", " have"),
    (r"\bi'm\b", "i am"),
    (r"\blet's\b", "let us"),
    (r"\b(it|he|she|that|there|what|who|where|here)'s\b", r"\1 is"),
    (r"'s\b|(?<=s)'(?=\s|$)", ""),
    (r"\b([dljmtsncq]|qu|lorsqu|puisqu|jusqu|dell|all|nell|sull|un)'(?=\w)", r"\1 "),
)
"""Patterns of contracted words and what they stand for; applied without regard to case, in this order."""

IRREGULAR = {
    form: base
    for base, forms in {
        "buy": "bought",
        "sell": "sold",
        "write": "wrote written",
        "give": "gave given",
        "take": "took taken",
        "begin": "began begun",
        "go": "went gone",
        "come": "came",
        "make": "made",
        "find": "found",
        "lead": "led",
        "build": "built",
        "leave": "left",
        "lose": "lost loss losses",
        "win": "won winner",
        "pay": "paid",
        "send": "sent",
        "keep": "kept",
        "hold": "held",
        "meet": "met",
        "sign": "signed signs",
        "teach": "taught",
        "catch": "caught",
        "bring": "brought",
        "fall": "fell fallen",
        "rise": "rose risen",
        "grow": "grew grown growth",
        "know": "knew known",
        "shut": "shuts",
        "drive": "drove driven",
        "break": "broke broken",
        "choose": "chose chosen choice",
        "speak": "spoke spoken",
        "steal": "stole stolen",
        "bite": "bit bitten",
        "eat": "ate eaten",
        "see": "saw seen",
        "beat": "beaten",
        "sing": "sang sung",
        "draw": "drew drawn",
        "fly": "flew flown flies flight",
        "run": "ran",
        "feed": "fed",
        "fight": "fought",
        "get": "got gotten",
        "lend": "lent",
        "spend": "spent",
        "stand": "stood",
        "tell": "told",
        "think": "thought",
        "wear": "wore worn",
        "become": "became",
        "child": "children",
        "man": "men",
        "woman": "women",
        "person": "people persons",
        "foot": "feet",
        "mouse": "mice",
        "analysis": "analyses",
    }.items()
    for form in forms.split()
}
"""Irregular forms and the word that they are forms of."""

# ------------------------------------------------------------------------------------------------ what carries no content

ARTICLES = _set(
    """a an the this that these those each every any some no my your his her its our their
    der die das den dem des ein eine einen einem einer eines kein keine keinen diese dieser dieses jeder jede
    le la les un une des du l cette ces cet ce el los las una
    unos unas este esta il lo gli uno de het een o os as um uma"""
)
"""Words that begin a noun phrase."""

AUXILIARIES = _set(
    """is are was were be been being am has have had do does did will would shall should can could may might must
    ist sind war waren wird werden wurde wurden worden hat haben hatte hatten kann können muss müssen darf
    dürfen soll sollen
    est sont était étaient fut furent été a ont avait avaient peut peuvent doit doivent sera seront
    es son era eran fue fueron sido ha han había puede pueden debe deben será está están
    è sono fu furono stato può possono deve é são foi
    foram pode podem kan kunnen moet moeten mag zijn werd werden heeft"""
)

PREPOSITIONS = _set(
    """in on at by from to of for with without into onto over under above below before after since until till
    during between
    through than against about near behind as per via towards toward around inside outside across along
    im am an auf von vom zu zum zur für mit ohne aus bei bis nach vor über unter seit durch gegen als
    dans sur à au aux de par pour avec sans avant après depuis sous entre que
    en con sin por para desde hasta antes después sobre tras del al
    da di per tra com sem em no na do zonder van voor naar uit"""
)

COPULAS = _set("is are was were ist sind war waren est sont était es son era eran fue è sono é são")
"""Verbs that say what something is: both sides of them are the same."""

PARTICLES = _set("up down in out on off upward upwards downward downwards")
"""Small words of direction, which are opposites of each other and no verbs."""

BY = _set("by von vom durch par por da av")
"""What names the doer in a passive sentence."""

FRAME_WORDS = _set(
    """answer according called named known located situated found based stated states mentioned says said happen
    happened happens
    occur occurred occurs place took take takes kind type uses using namely currently also well actually given regarding text
    source sources
    document documents provided context one ones thing things someone something please there get gets got held
    der die das den dem des ein eine einen einem einer eines ist sind war waren wird werden wurde wurden hat haben
    und oder in im am an
    auf von vom zu zum zur für mit aus bei es er sie wir ihr man auch als sich dass daß wie was wer wo wann wieviel
    viel welche welcher
    welches ca circa etwa beträgt nach um durch
    le la les un une des du de et ou est sont était étaient à au aux en dans sur par pour avec il elle on ils elles
    se ce cette qui que
    quand combien où quel quelle quels quelles dont l d s c n ne y a ont été
    el los las una unos unas y o es son era fue fueron del al con por para se su sus lo qué quién quien cuándo
    cuando cuánto cuántos
    dónde donde cuál como está están ha han
    il lo gli i uno una di da con su per è sono che chi dove quando
    het een en of is zijn van voor op te wie wat waar wanneer de o
    os as um uma e ou é são em no na do da que quem onde
    и в на с по к у о от до за из для при что как ли же бы это кто где когда какой какая какие сколько
    هل من في على إلى عن كم ما هي هو متى أين التي الذي أن
    어디 어디인가 어디인가요 누구 누구인가 누구인가요 무엇 무엇인가 무엇인가요 언제 언제인가 얼마 얼마인가 몇"""
)
"""Words that carry no content in an answer, besides the English stop words."""

NAME_QUESTIONS = _set("who whom what which whose wer wen wem welche welcher qui quién quien chi")
"""Words that begin a question whose answer takes their place in the sentence."""

ANAPHORS = _set(
    """it its he his him she her hers they their them this that these those such there both here
    er sie es ihn ihm ihr ihnen ihre ihrer sein seine seiner diese dieser dieses dies dabei dort dazu davon
    il elle ils elles son sa ses leur leurs cette ce ces cela celui celle ello ella ellos ellas su sus este esta
    esto ese esa eso
    他 她 它 これ それ"""
)
"""Words near the beginning of a sentence that speak of the sentence before it."""

CONTRASTS = _set(
    """but except excluding unlike while whereas although though however instead rather yet because unless
    aber sondern außer während obwohl jedoch wohingegen mais sauf
    tandis alors excepté pero salvo excepto mientras aunque sino"""
)
"""Words that begin a clause of another polarity."""

GERMAN_WORDS = _set(
    "der die das und ist nicht ein eine mit von zu im den dem des für auf wird werden sind wurde am kein keine"
)
DECIMAL_COMMA_WORDS = GERMAN_WORDS | _set(
    """le la les des est une et dans pour avec du sur par el los las una con por del está para il lo gli che è het
    een van voor op
    niet och är att det og på der som nie jest się oraz o os as um uma em não são"""
)
"""Function words of languages that write a decimal comma."""

# ------------------------------------------------------------------------------------------------ polarity

NEGATIONS = _set(
    """not no never none nobody nothing nowhere neither nor without hardly scarcely lack lacks lacking lacked unable
    fail fails failed
    except excluding refuse refuses refused
    nicht kein keine keinen keinem keiner keines nie niemals ohne niemand nichts nirgends weder keinesfalls außer
    pas jamais aucun aucune sans rien ni nul nulle non sauf
    nunca sin ningún ninguno ninguna nada jamás tampoco salvo excepto
    mai senza nessuno nessuna nessun não sem nenhum nenhuma niet geen nooit zonder
    inte ej aldrig utan ingen inget ikke aldri uten ingen nie nigdy bez nikt nic żaden żadna żadne
    není nejsou nebyl nebyla nebylo nemá nemají nesmí nelze nikdy nikdo žádný žádná δεν δε μην μη ποτέ κανείς κανένας χωρίς
    לא אין אינו אינה אל בלי không chưa chẳng đừng ei eivät emme älä eikä ilman koskaan nem nincs soha senki
    nu niciodată nimeni fără
    не нет без никогда ни нельзя ні немає
    لا ليس ليست لم لن غير بدون नहीं न मत बिना ना değil yok hayır 안 못 아니다 없다"""
)

WITHOUT = _set("without ohne sans sin senza sem zonder utan uten bez без بدون बिना")
"""Words that deny only what they stand before."""

EXCEPTIONS = _set(
    "except excepting excluding außer ausgenommen sauf excepté hormis excepto salvo menos eccetto tranne exceto"
)
"""Words before what a statement about all leaves out."""

POSSIBILITIES = _set("may might could könnte könnten pourrait pourraient podría podrían potrebbe poderia")
"""Verbs that say that something is possible, or allowed."""

INTENTIONS = _set(
    """plan plans planned planning intend intends intended hope hopes hoped tried tries attempted attempts aims aimed promised
    offered threatened going used"""
)
"""Words that say, before "to", that what follows is meant, tried, or no longer so."""

WISHES = _set(
    """proposed suggested preferred wanted hoped wished favoured favored vorgeschlagen schlug wollte wollten hoffte hofften
    wünschte wünschten proposait proposé voulait voulaient préférait espérait propuso quería querían prefería esperaba"""
)
"""Words that say that somebody wanted or proposed what follows."""
AGREEMENTS = _set(
    """agreed accepted approved adopted decided chose chosen carried einverstanden zugestimmt angenommen beschlossen accepté
    adopté décidé aceptó aprobó decidió"""
)
"""Words that say that what was proposed will be done."""

UNTRUTHS = _set(
    """myth wrongly falsely denied denies deny denying misconception hoax disproved
    refuted
    falsch unwahr mythos bestreitet leugnet faux démenti dément falso mito niega desmiente"""
)
"""Words that say that what follows is not so."""

HEDGES = _set(
    """alleged allegedly allege alleges rumor rumour rumored rumoured rumors rumours supposedly purportedly
    purported accuse accused
    accuses unconfirmed hypothetical hypothetically perhaps possibly maybe might suspected speculated speculate
    unproven
    angeblich vermeintlich mutmaßlich vielleicht möglicherweise gerücht
    prétendument peut-être supuestamente quizás rumor presunto"""
)
"""Words that say that what follows may not be so."""

COMPLEMENTS = _pairs(
    """open/closed open/close open/shut opens/closes opened/closed allow/forbid allow/prohibit allowed/forbidden
    allowed/prohibited
    allowed/banned permit/forbid permitted/prohibited permitted/forbidden allows/forbids allows/prevents
    possible/impossible
    true/false alive/dead enabled/disabled enable/disable enables/disables present/absent succeed/fail success/failure
    legal/illegal accept/reject accepts/rejects accepted/rejected accepted/declined approve/reject approved/rejected
    approved/denied included/excluded include/exclude includes/excludes win/lose won/lost safe/unsafe safe/dangerous
    safe/harmful
    valid/invalid able/unable available/unavailable online/offline active/inactive public/private free/occupied
    mandatory/optional required/optional compulsory/optional compulsory/voluntary paid/unpaid paid/free
    connected/disconnected
    connect/disconnect lock/unlock locked/unlocked visible/hidden known/unknown full/empty guilty/innocent
    add/remove added/removed add/drop added/dropped introduced/removed introduced/dropped
    adds/removes reversible/irreversible complete/incomplete agree/disagree agrees/disagrees agreed/disagreed
    confirmed/denied
    confirms/denies confirm/deny supported/unsupported waterproof/permeable trust/distrust
    encrypted/unencrypted edible/poisonous edible/inedible toxic/harmless fresh/stale ascending/descending
    correct/incorrect
    male/female wet/dry
    geöffnet/geschlossen offen/geschlossen erlaubt/verboten möglich/unmöglich wahr/falsch gültig/ungültig
    sicher/unsicher gefährlich/harmlos kostenlos/kostenpflichtig öffnet/schließt aktiviert/deaktiviert
    ouvert/fermé ouverte/fermée ouvre/ferme autorisé/interdit permis/interdit possible/impossible vrai/faux
    gratuit/payant
    abierto/cerrado abierta/cerrada abre/cierra permitido/prohibido
    posible/imposible verdadero/falso gratis/pago seguro/inseguro
    открыт/закрыт открыта/закрыта открыто/закрыто открыты/закрыты разрешён/запрещён разрешено/запрещено бесплатно/платно
    можно/нельзя включён/выключен включено/выключено"""
)
"""Opposites of which one is the other's negation."""

PERSPECTIVES = _pairs(
    "buy/sell own/belong teach/learn lend/borrow give/get give/receive kaufen/verkaufen besitzen/gehören leihen/verleihen"
)
"""Verbs that tell the same from two sides: who owns what belongs to whom."""

CONVERSES = _pairs(
    """more/less more/fewer most/least many/few much/little before/after earlier/later above/below greater/smaller
    greater/less larger/smaller bigger/smaller higher/lower longer/shorter older/younger older/newer faster/slower
    heavier/lighter
    hotter/colder warmer/colder warmer/cooler better/worse best/worst cheaper/dearer stronger/weaker wider/narrower
    thicker/thinner
    taller/shorter deeper/shallower richer/poorer larger/lesser largest/smallest biggest/smallest highest/lowest
    longest/shortest
    oldest/youngest oldest/newest fastest/slowest maximum/minimum max/min maximal/minimal increase/decrease
    increases/decreases increased/decreased increasing/decreasing rise/fall rises/falls rose/fell risen/fallen
    rise/drop rose/dropped
    rises/drops grow/shrink grew/shrank grows/shrinks gain/loss gained/lost profit/loss raise/lower raised/lowered
    raises/lowers
    expand/contract improve/worsen improved/worsened improves/worsens upper/lower upward/downward ascend/descend
    inside/outside indoor/outdoor indoors/outdoors internal/external import/export imports/exports imported/exported
    buy/sell buys/sells bought/sold lend/borrow lends/borrows lent/borrowed teach/learn
    start/end starts/ends started/ended begin/end begins/ends began/ended arrive/depart
    arrives/departs arrived/departed arrival/departure arrive/leave arrives/leaves arrived/left enter/leave
    enters/leaves
    entered/left enter/exit attack/defend hot/cold warm/cold warm/cool dry/wet light/dark light/heavy large/small
    big/small long/short
    high/low old/new old/young fast/slow easy/difficult easy/hard simple/complex rich/poor strong/weak wide/narrow
    deep/shallow
    thick/thin soft/hard early/late cheap/expensive positive/negative advantage/disadvantage often/rarely often/seldom
    frequently/rarely always/sometimes same/different up/down in/out upwards/downwards uphill/downhill upstairs/downstairs
    upstream/downstream push/pull top/bottom left/right north/south east/west
    northern/southern eastern/western input/output upload/download uploads/downloads uploaded/downloaded parent/child
    compress/decompress encode/decode encrypt/decrypt
    buyer/seller employer/employee teacher/student winner/loser sender/recipient day/night morning/evening
    summer/winter
    horizontal/vertical manual/automatic manually/automatically temporary/permanent temporarily/permanently
    love/hate loves/hates
    clockwise/counterclockwise clockwise/anticlockwise major/minor majority/minority forward/backward
    forwards/backwards
    credit/debit asset/liability ally/enemy peace/war speed/slow expands/contracts expanded/contracted
    strengthen/weaken
    strengthened/weakened strengthens/weakens accelerate/decelerate tighten/loosen heating/cooling heats/cools
    heated/cooled
    melts/freezes melt/freeze load/unload loads/unloads insert/remove opens/shuts attach/detach inhale/exhale
    pass/fail
    passes/fails passed/failed hire/fire hired/fired hires/fires supports/opposes supported/opposed
    support/oppose wins/loses
    mehr/weniger vor/nach größer/kleiner höher/niedriger höher/tiefer länger/kürzer älter/jünger schneller/langsamer
    über/unter
    steigt/sinkt stieg/sank gestiegen/gesunken steigt/fällt stieg/fiel maximal/minimal höchstens/mindestens
    früher/später
    erste/letzte oben/unten innen/außen links/rechts groß/klein alt/neu billig/teuer warm/kalt heiß/kalt
    kaufte/verkaufte
    beginnt/endet begann/endete ankunft/abfahrt erhöht/gesenkt erhöhte/senkte zunahme/abnahme
    plus/moins avant/après augmente/diminue augmenté/diminué augmentation/diminution monte/descend gauche/droite
    grand/petit
    grande/petite premier/dernier première/dernière dessus/dessous commence/finit chaud/froid achète/vend acheté/vendu
    más/menos antes/después aumenta/disminuye aumentó/disminuyó sube/baja subió/bajó mayor/menor izquierda/derecha arriba/abajo
    grande/pequeño
    primero/último empieza/termina caliente/frío compró/vendió"""
)
"""Opposites that turn a relation around."""

SYMMETRIC = _set(
    """near opposite beside next adjacent parallel similar identical related with
    married marry marries met meet meets merge merged merges border borders bordered equal equals differ differs
    same between both
    together versus vs partner partners sibling siblings neighbour neighbor neighbours cooperate cooperates
    heiratete traf grenzt zwischen gemeinsam épouse entre casó"""
)
"""Words of relations that hold in both directions."""

# ------------------------------------------------------------------------------------------------ quantifiers, modality

ALL = _set(
    """all every each always everyone everybody everything everywhere entire whole both any throughout whenever
    anyone daily
    alle jeder jede jedes jeden immer jederzeit stets sämtliche tous
    toutes toujours chaque tout toute todos todas siempre cada todo toda"""
)
SOME = _set(
    """some sometimes several many most few half partly partially occasionally often usually certain mostly various
    einige manche manchmal mehrere viele meisten wenige oft teilweise gelegentlich
    quelques certains certaines parfois plusieurs souvent algunos algunas varios varias muchos pocos"""
)
ONLY = _set(
    """only solely exclusively just merely alone sole nur ausschließlich lediglich bloß allein seulement uniquement
    solo sólo solamente únicamente"""
)
OBLIGATIONS = _set(
    "must required mandatory obligatory compulsory need needs muss müssen pflicht doit doivent debe deben obligatorio"
)
ALLOWED = _set(
    """allowed permitted able possible potential potentially likely erlaubt gestattet möglich zulässig permis autorisé possible
    permitido posible"""
)
"""What may be done is said to be one of these."""
RECOMMENDATIONS = _set("should ought recommended advisable sollte sollten devrait devraient debería deberían")
PERMISSIONS = _set("may can could optional might kann können darf dürfen peut peuvent puede pueden opcional")

# ------------------------------------------------------------------------------------------------ classes: one excludes another

CLASSES = tuple(
    tuple(tuple(member.split("/")) for member in members.casefold().split())
    for members in (
        """monday/mondays/mon sunday/sundays/sun tuesday/tuesdays/tue wednesday/wednesdays/wed thursday/thursdays/thu
        friday/fridays/fri saturday/saturdays/sat""",
        """montag/montags dienstag/dienstags mittwoch/mittwochs donnerstag/donnerstags freitag/freitags
        samstag/samstags/sonnabend sonntag/sonntags""",
        "lundi mardi mercredi jeudi vendredi samedi dimanche",
        "lunes martes miércoles jueves viernes sábado domingo",
        "red green blue yellow black white orange purple brown grey/gray pink",
        """rot/rote/roter/rotes/roten grün/grüne/grüner/grünen blau/blaue/blauer/blauen gelb/gelbe/gelben
        schwarz/schwarze weiß/weiße""",
        "spring summer autumn winter",
        "frühling sommer herbst winter",
        "hourly daily/day weekly/week monthly/month yearly/year/annually/annual quarterly",
        "morning/mornings afternoon/afternoons evening/evenings night/nights",
    )
)
"""Words of one kind; a source that names one of a kind does not speak of another."""

CLASS_WORDS = frozenset(word for members in CLASSES for member in members for word in member)

ENGLISH_CONTENT = _set("war die den man hat son sin met mag fin pour sale van pas")
"""English words with content that are function words of other languages."""

# ------------------------------------------------------------------------------------------------ synonyms

SYNONYMS = {
    word: group.split()[0]
    for group in (
        "buy purchase acquire bought purchased acquired takeover",
        "begin start commence begins starts starting began started beginning",
        "end finish conclude ends finishes finished ended stop stops stopped",
        "big large huge great",
        "bigger larger greater",
        "small little tiny",
        "smaller lesser",
        "quick fast rapid quickly rapidly",
        "approve sign authorise authorize approves approved signs signed approval authorises authorizes",
        "cost price fee charge costs prices fees charges priced rate",
        "help assist aid support helps assists aids",
        "make create produce manufacture makes made creates created produces produced manufactures manufactured",
        "build construct built constructs constructed erected",
        "repair fix mend repairs fixes mends repaired fixed mended",
        "trip journey voyage ride",
        "car automobile vehicle cars automobiles vehicles",
        "doctor physician",
        "employee worker staff employees workers",
        "allow permit let allows permits lets allowed permitted",
        "need require needs requires needed required must requirement requirements",
        "show display shows displays shown displayed",
        "delete remove erase deletes removes erases deleted removed erased",
        "send mail ship dispatch sends ships sent shipped dispatched",
        "get receive obtain gets receives obtains got received obtained",
        "give provide supply offer gives provides supplies offers gave given provided supplied offered",
        "use utilise utilize employ uses used",
        "keep store retain keeps stores retains kept stored retained",
        "children kids child kid",
        "country nation countries nations state",
        "company firm business corporation companies firms",
        "movie film movies films",
        "photo picture image photos pictures images",
        "phone telephone phones telephones call",
        "error fault failure errors faults",
        "ill sick",
        "shop shops",
        "road street",
        "annual yearly annually",
        "approximately about around roughly nearly approx circa",
        "choose select pick chooses selects picks chose chosen selected picked",
        "wait await",
        "answer reply respond replies responds replied",
        "ask request",
        "change modify alter changes modifies alters changed modified altered",
        "happen occur happens occurs happened occurred",
        "live reside lives resides lived resided",
        "job work works working worked employed",
        "say state says states said stated",
        "try attempt tries attempts tried attempted",
        "speak talk speaks talks spoke talked",
        "last final",
        """default defaults standardmässig standardwert standardeinstellung voreinstellung voreingestellt défaut predeterminado
        predeterminada predefinito""",
        "whole entire",
        "important essential crucial",
        "maximum max maximal highest most",
        "minimum min minimal lowest least",
        "increase rise grow increases rises grows increased rose grew raise raised raises",
        """decrease fall drop decline reduce reduces lowers decreases falls drops declines decreased fell dropped declined
        reduced lower lowered""",
        "contain hold include contains holds includes held included comprise comprises",
        "hit strike press push hits strikes presses pushes pressed pushed",
        "refund reimbursement reimburse refunded reimbursed",
        "return give_back returned",
        "arrive reach arrives reaches arrived reached come arrival arrivals",
        "leave depart leaves departs left departed departure departures",
        "destroy demolish destroyed demolished",
        "kill murder killed murdered",
        "found establish founded established founds establishes founding founder",
        "lead head led headed leads heads run runs ran manage manages managed manager",
        "invent devise invented devised inventor",
        "write author wrote written authored writer",
        "own possess owns possesses owned possessed",
        "win victory won winner wins",
        "weigh weight weighs weighed heavy",
        "height high tall",
        "width wide",
        "depth deep",
        "age old",
        "speed fast",
        "length long duration last lasts lasted takes take took",
        "house home",
        "ticket pass",
        "film movie",
        "garbage trash rubbish waste",
        "holiday vacation holidays",
        "password passphrase",
        "sofa couch",
        "forbidden prohibited banned illegal",
        "launch release launched released releases launches publish published publishes",
        "located situated lies lie stands",
        "purpose aim goal",
        "replace substitute replaces replaced substituted replacement supersede supersedes superseded successor",
        "restart reboot restarts reboots restarted rebooted",
        "turn switch turns switches turned switched",
        "capacity hold holds",
        "defeat beat defeated defeats beats",
        "kosten preis kostet gebühr",
        "beginnen anfangen beginnt startet begann",
        "auto wagen autos",
        "kaufen erwerben kaufte erwarb gekauft erworben",
        "coûter prix coûte",
        "acheter acquérir acheté acquis achète",
        "costar precio cuesta",
        "comprar adquirir compró adquirió",
    )
    for word in group.split()
}
"""A word and the one that stands for its group."""
