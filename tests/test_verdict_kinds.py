"""Kinds of small changes and of other words that the verdict tells apart, a group for each kind."""

import pytest

from leanrag import Chunk, Hit
from leanrag.grounding import ground
from leanrag.types import PackedItem, Segment


def is_supported(text, question, answer):
    hit = Hit(Chunk("d", 0, len(text), text), 1.0)
    item = PackedItem(1, hit, text, (Segment(0, len(text), 0, 0, len(text)),), 1)
    return ground(question, answer, [item]).is_supported


FEES = "| Item | Members | Guests |\n|---|---|---|\n| Kiln firing | 12 EUR | 20 EUR |\n| Lathe | 5 EUR | 9 EUR |"
STOCK = "part;price;selling price;keeper\nP-1;4;7;Ada\nP-2;5;9;Bo"

GROUPS = (
    "backup\n\nThe backup group is for people who make backups without being root.\n\n"
    "video\n\nThis group can be used locally to give some users access to a video device.\n\n"
    "audio\n\nThis group can be used locally to give some users access to an audio device."
)
OPTIONS = "--jobs N\n    Run N jobs at once. The default is 1.\n\n--wait SEC\n    Wait SEC seconds. The default is 30."
SHORT_OPTIONS = "-j N: run N jobs. The default is 1.\n-t SEC: wait SEC seconds. The default is 30."

CODES = (
    "# XZ Utils FAQ\n\nQ: What do the letters XZ mean?\n\nA: Nothing. They come from the suffix of the files.\n\n"
    "Q: What is LZMA?\n\nA: LZMA stands for Lempel-Ziv-Markov chain-Algorithm."
)
REPLY = "11. Can the library handle .zip archives?\n\n    Not by itself, no.  See the directory contrib/minizip."
OFFLINE = (
    "## How can the tool work offline?\n\nThe --frozen flag tells the tool to not touch the network. It returns an error in case"
    " it would.\n\n## Is the office open on Sunday?\n\nIt is closed on Sunday."
)

KENNELS = (
    "[[kennel]]\nname = Birch\nkeeper = Ole Dahl\ndogs = 7\n\n[[kennel]]\nname = Alder\nkeeper = Pia Rex\ndogs = 9"
)
SHIPS = "type: brig\nship: Osprey\nmaster: Ann Hale\ncrew: 14\ntype: brig\nship: Heron\nmaster: Jo Finch\ncrew: 11"
HEADERS = (
    "change 41\nAuthor: Ola Berg\nDate: 3 May 2021\n\n    Close idle sockets\n\n"
    "change 42\nAuthor: Kai Lund\nDate: 9 May 2021\n\n    Raise the limit of uploads"
)
TIDES = "Harbour        High water    Low water\nNorth Quay     4.1 m         0.6 m\nSouth Quay     3.8 m         0.9 m"
CODES_OF_EXIT = "EXIT CODES\n  0     All is well.\n  3     The disk is full.\n  9     The network is down."
CREW_CHAT = (
    "[09:01] Mia: who feeds the cats on Friday?\n[09:02] Jon: Ruth does\n[09:04] Lea: I do on Saturday\n[09:05] Jon: ok\n"
    "[09:20] Mia: thanks"
)
OPENING = "3. Opening hours\nThe baths open at seven. They close at nine in the evening.\n\n4. Prices\nA ticket costs six euros."
MEDICINE = "Do not use the cream:\n- on open wounds,\n- near the eyes.\n\nUse it sparingly:\n- on dry skin."
DITTO = "| Day | Hour | Guide |\n|---|---|---|\n| Friday | 10 | Ines |\n| | 15 | Boris |\n| Sunday | 10 | Clara |"
WORDS = "Stem. The front end of a hull. Ours is of larch.\nStern. The rear end of a hull. Ours is of oak."

QUIZ = (
    "1. Which metal melts first?\n   a) Iron\n   b) Tin\n   c) Copper\n   Answer: b\n\n"
    "2. Which gas burns?\n   a) Neon\n   b) Argon\n   c) Methane\n   Answer: c"
)

STAMPED = (
    "Ida Moe 9:02 AM\nWho needs the van?\n\nBo Lind 9:05 AM\nI need it for the fair.\n\n"
    "Odd Vik 9:40 AM\nThe garage opens at 7:30."
)
LETTER = (
    "Room:       double, no. 204\nPrice:      129 euros per night\nParking:    12 euros per night\n"
    "Departure:  10 June (by 11:00)"
)
REPORT = (
    "CITY LABORATORY            Report 31\n\nTest          Result     Reference\n"
    "Iron          18         30 - 300\nZinc          12         10 - 20"
)

FALSE = {
    "names above turns": [
        (STAMPED, "Who needs the van?", "Odd Vik"),
        (STAMPED, "When does the garage open?", "At 9:40."),
    ],
    "names of measures": [
        (LETTER, "What does parking cost per night?", "129 euros"),
        (REPORT, "What is the result of zinc?", "10"),
    ],
    "seconds": [
        ("name;time\nAda;3:15:02\nBo;3:15:39\nEva;3:21:10", "What was the time of Ada?", "3:15:39"),
    ],
    "sentences that speak less of the question": [
        (
            "The session ends after 45 minutes. The breaks take 15 minutes.",
            "After how long does the session end?",
            "15 minutes",
        ),
        (
            "Name: Ana Roy\nAddress: Kade 7, Delft\nNote: Lifts up to 45 tons.",
            "How many tons can Ana Roy lift?",
            "7 tons",
        ),
    ],
    "options of a quiz": [
        (QUIZ, "Which metal melts first?", "Iron"),
        (QUIZ, "Which gas burns?", "Argon"),
    ],
    "records": [
        (KENNELS, "Who keeps the kennel Alder?", "Ole Dahl"),
        (KENNELS, "How many dogs are in the kennel Birch?", "9"),
        (SHIPS, "How large is the crew of the Heron?", "14"),
        (SHIPS, "Who is the master of the Osprey?", "Jo Finch"),
        (HEADERS, "Who raised the limit of uploads?", "Ola Berg"),
        ("pool_size = 20\npool_wait = 8\nretries = 3", "What is the pool size?", "8"),
    ],
    "aligned columns": [
        (TIDES, "What is the low water at North Quay?", "4.1 m"),
        (TIDES, "What is the high water at South Quay?", "4.1 m"),
        ("Trim ............ 12 EUR\nDye ............. 40 EUR", "What does a trim cost?", "40 EUR"),
    ],
    "keys of lines": [
        (CODES_OF_EXIT, "What does exit code 3 mean?", "The network is down."),
        ("A  Weekdays only.\nB  Holidays only.", "What does note B mean?", "Weekdays only."),
    ],
    "numbered things": [
        ("The printer in room 3 takes A4. The printer in room 5 takes A3.", "Which paper is in room 5?", "A4"),
        ("Gate 2 leads to Oslo.", "Where does gate 4 lead to?", "Gate 4 leads to Oslo."),
    ],
    "speakers": [
        (CREW_CHAT, "Who feeds the cats on Friday?", "Jon"),
        (CREW_CHAT, "Who feeds the cats on Friday?", "Mia feeds the cats on Friday."),
    ],
    "titles of sections": [
        (OPENING, "What does a ticket cost?", "nine"),
        (
            "§ 2 Bicycles\nKeep them in cellar B.\n\n§ 3 Prams\nKeep them in the hall.",
            "Where do I keep prams?",
            "in cellar B",
        ),
    ],
    "lists that deny": [
        (MEDICINE, "Where do I use the cream?", "Use the cream on open wounds."),
        (MEDICINE, "May I use the cream near the eyes?", "Use the cream near the eyes."),
    ],
    "empty cells": [
        (DITTO, "Who is the guide on Friday at 15?", "Ines"),
        (DITTO, "Who is the guide on Sunday?", "Boris"),
    ],
    "terms before their definitions": [
        (WORDS, "What is the stem made of?", "oak"),
        ("Chair: Ms Roy. Clerk: Mr Poe.", "Who is the chair?", "Mr Poe"),
    ],
    "parts of a sentence": [
        ("The course starts on 4 May and finishes on 9 July.", "When does the course finish?", "On 4 May."),
        ("Glass is fetched on Monday, the paper on Friday.", "When is glass fetched?", "On Friday."),
        ("Das Glas wird montags geholt, das Papier freitags.", "Wann wird das Glas geholt?", "freitags"),
        ("Ada Roy was named captain, and Bo Lind became cook.", "Who became cook?", "Ada Roy"),
        ("It holds oats (60 %), nuts (12 %) and honey (5 %).", "What share are nuts?", "60 %"),
    ],
    "what was before": [
        ("The limit is 12 MB, formerly 4 MB.", "What is the limit?", "4 MB"),
        ("The basin is 8 m deep, against 5 m before.", "How deep is the basin?", "5 m"),
        ("Ada Roy is the cook in place of Bo Lind.", "Who is the cook?", "Bo Lind"),
        ("The age was raised from 16 to 18.", "What is the age?", "16"),
    ],
    "bounds of the question": [
        (
            "Class B is for trips of up to 4 hours. Class D is for trips of more than 4 hours.",
            "Which class for trips of more than 4 hours?",
            "Class B",
        ),
    ],
    "things instead of units": [
        ("At most 30 guests. The fee is 12 euros.", "What is the fee?", "30 euros"),
        ("A set has 40 cards and lasts 15 minutes.", "How many cards has a set?", "15 cards"),
    ],
    "answers of other sentences": [
        ("A locker costs 2 euros. A lost key costs 15 euros.", "What does a locker cost?", "15 euros"),
        (
            "The owner mends the roof. The tenant mends all other parts.",
            "Who mends the roof?",
            "The tenant mends the roof.",
        ),
    ],
    "replies": [
        ("Ann: Did you ever sell the boat?\nBo: No. Not once. I sold the cart.", "Did you ever sell the boat?", "Yes."),
        ("**Darf ich? / May I lend the card?**\n\nNein.\nNo, the card is personal.", "May I lend the card?", "Yes."),
        ("Do not wash the lid.", "Can I wash the lid?", "Yes."),
    ],
    "denials of something else": [
        (OFFLINE, "Does the tool work offline?", "No, the tool does not work offline."),
        (OFFLINE, "Does the tool work offline?", "The tool does not work offline."),
    ],
    "codes": [
        (CODES, "What does XZ stand for?", "Lempel-Ziv-Markov chain-Algorithm"),
        (CODES, "What does XZ stand for?", "XZ stands for Lempel-Ziv-Markov chain-Algorithm."),
    ],
    "replies that a pause parts off": [
        (REPLY, "Can the library handle .zip archives?", "Yes, the library handles .zip archives."),
        (REPLY, "Can the library handle .zip archives?", "Yes."),
    ],
    "terms with what is said of them below": [
        (GROUPS, "What is the audio group for?", "give some users access to a video device"),
        (
            GROUPS,
            "What is the backup group for?",
            "This group can be used to give some users access to a video device.",
        ),
        (OPTIONS, "What is the default of --wait?", "The default is 1."),
        (SHORT_OPTIONS, "What is the default of -t?", "1"),
    ],
    "columns": [
        (FEES, "What does kiln firing cost for guests?", "12 EUR"),
        (FEES, "What does kiln firing cost for guests?", "Kiln firing costs 12 EUR for guests."),
        (FEES, "What do members pay for the lathe?", "9 EUR"),
        (STOCK, "What is the selling price of P-1?", "4"),
        ("| Team | Lead | Deputy |\n|---|---|---|\n| Red | Ada | Bo |", "Who is the deputy of team Red?", "Ada"),
    ],
    "what is the same": [
        ("The capital of Norway is Oslo. The capital of Peru is Lima.", "What is the capital of Norway?", "Lima"),
        ("The CEO of Acme is Bo Lind. The CEO of Globex is Ada Park.", "Who is the CEO of Acme?", "Ada Park"),
        (
            "The CEO of Acme is Bo Lind. The CEO of Globex is Ada Park.",
            "Who is the CEO of Acme?",
            "Ada Park is the CEO of Acme.",
        ),
        ("Acme is the parent of Globex.", "Who is the parent of Globex?", "Globex is the parent of Acme."),
    ],
    "lists of steps": [
        (
            "1. Open the panel.\n2. Hold key 3.\n3. Close the panel.",
            "How do I bake a cake?",
            "The capital of Norway is Oslo.",
        ),
        ("Releases are signed off by Ada Park.", "Who won the world cup?", "Releases are signed off by Ada Park."),
    ],
    "prefixes": [
        ("Only members may vote.", "Who may vote?", "Non-members may vote."),
        ("The hall is for non-members.", "Who is the hall for?", "The hall is for members."),
        ("The floor is non-slip.", "How is the floor?", "The floor is slip."),
        ("Payments are non-refundable.", "Are payments refundable?", "Payments are refundable."),
    ],
    "exceptions": [
        ("Alle Zimmer außer Zimmer 4 haben Balkon.", "Welche Zimmer haben Balkon?", "Alle Zimmer haben Balkon."),
        ("All rooms except room 4 have a balcony.", "Which rooms have a balcony?", "All rooms have a balcony."),
        (
            "Toutes les chambres sauf la chambre 4 ont un balcon.",
            "Quelles chambres ont un balcon ?",
            "Toutes les chambres ont un balcon.",
        ),
        (
            "Todas las habitaciones excepto la 4 tienen balcón.",
            "¿Qué habitaciones tienen balcón?",
            "Todas las habitaciones tienen balcón.",
        ),
        ("The shop is open every day except Sunday.", "When is the shop open?", "The shop is open every day."),
        ("The shop is open every day except Sunday.", "When is the shop open?", "The shop is open on Sunday."),
        ("The shop is open every day but Sunday.", "When is the shop open?", "The shop is open every day."),
    ],
    "clauses with one verb": [
        ("Ada handles invoices and Bo handles refunds.", "Who handles refunds?", "Ada handles refunds."),
        ("Ada handles invoices and Bo handles refunds.", "Who handles refunds?", "Ada"),
        ("Ada handles invoices, while Bo handles refunds.", "Who handles refunds?", "Ada handles refunds."),
        ("Mia paints doors and Tom paints walls.", "Who paints walls?", "Mia paints walls."),
        ("Mia paints doors and Tom paints walls.", "Who paints walls?", "Walls are painted by Mia."),
        ("He works at the mill and she works at the school.", "Where does she work?", "She works at the mill."),
    ],
    "ends of a change": [
        ("The tax rose from 5 to 8 percent.", "How did the tax change?", "The tax rose from 8 to 5 percent."),
        ("The tax rose from 5 to 8 percent.", "How did the tax change?", "The tax rose to 5 percent."),
        ("Der Preis stieg von 5 auf 8 Euro.", "Wie stieg der Preis?", "Der Preis stieg von 8 auf 5 Euro."),
        ("Le prix est passé de 5 à 8 euros.", "Comment ?", "Le prix est passé de 8 à 5 euros."),
    ],
    "relations": [
        ("Oslo is north of Rome.", "Where is Oslo?", "Rome is north of Oslo."),
        ("Ann is the mother of Max.", "Who is the mother of Max?", "Max is the mother of Ann."),
        ("Hall B is part of Wing C.", "What is Hall B?", "Wing C is part of Hall B."),
        ("Linz liegt westlich von Wien.", "Wo liegt Linz?", "Wien liegt westlich von Linz."),
        ("The lamp is behind the sofa.", "Where is the lamp?", "The sofa is behind the lamp."),
    ],
    "names of code": [
        ("Call getUserById to load the user.", "What loads the user?", "Call getUserByName to load the user."),
        ("The file is /etc/app/main.conf.", "Which file?", "The file is /etc/app/main.cfg."),
        ("Open config.yaml to change it.", "Which file?", "config.yml"),
        ("Set max_retries to change it.", "Which option?", "Set max_retry."),
        ("Pass --dry-run to try it.", "Which option?", "Pass --dry-go."),
        ("The class UserStore keeps users.", "Which class keeps users?", "The class UserCache keeps users."),
    ],
    "ranks": [
        ("It is the second largest city.", "What is it?", "It is the largest city."),
        ("Lyon is the third oldest town.", "What is Lyon?", "Lyon is the oldest town."),
        ("It is the largest city.", "What is it?", "It is the second largest city."),
        ("Das ist die zweitgrößte Stadt.", "Was ist das?", "Das ist die größte Stadt."),
        ("C'est la deuxième plus grande ville.", "Quoi ?", "C'est la plus grande ville."),
    ],
    "directions": [
        ("Put it in with the chip facing up.", "How?", "Put it in with the chip facing down."),
        ("Slide the lever down.", "How?", "Slide the lever up."),
        ("Pull the pin out.", "How?", "Pull the pin in."),
        ("Log in before you start.", "How?", "Log out before you start."),
        ("Walk uphill to the gate.", "How?", "Walk downhill to the gate."),
    ],
    "possibilities": [
        ("The patch may fix the crash.", "What does the patch do?", "The patch fixes the crash."),
        ("The storm could delay the train.", "What of the storm?", "The storm delays the train."),
        ("Der Sturm könnte den Zug verspäten.", "Was?", "Der Sturm verspätet den Zug."),
    ],
    "numbers": [
        ("Add ½ cup of milk.", "How much milk?", "Add 2 cups of milk."),
        ("The peak is 8 848 m high.", "How high?", "The peak is 848 m high."),
    ],
    "other words": [
        ("Children under 12 travel free.", "Who travels free?", "Children older than 12 travel free."),
        ("At least three people must sign.", "Who must sign?", "Three or fewer people must sign."),
        (
            "The pump must be cleaned every week with warm water.",
            "How is the pump cleaned?",
            "You must clean the pump every week with cold water.",
        ),
        (
            "The pump must not be cleaned with warm water.",
            "How is the pump cleaned?",
            "You clean the pump with warm water.",
        ),
        (
            "name: payments\nport: 8443\n\nname: users\nport: 9000",
            "What port does payments use?",
            "payments uses port 9000.",
        ),
        ("name: payments\nport: 8443\n\nname: users\nport: 9000", "What port does payments use?", "9000"),
        ("To square it write `x = y ** 2`.", "How do I square?", "`x = y ** 3`"),
    ],
    "plans": [
        ("Acme plans to buy Globex.", "What about Globex?", "Acme bought Globex."),
        ("Acme plans to buy Globex.", "Who bought Globex?", "Acme"),
        ("Acme tried to buy Globex.", "What about Globex?", "Acme bought Globex."),
        ("Ada used to work at Acme.", "Where does Ada work?", "Ada works at Acme."),
        ("The bridge will be closed.", "What about the bridge?", "The bridge was closed."),
        ("The mill was going to be rebuilt.", "What about the mill?", "The mill was rebuilt."),
        ("You should wear gloves.", "What about gloves?", "You must wear gloves."),
    ],
    "alternatives": [
        ("Ada or Bo will sign.", "Who will sign?", "Ada and Bo will sign."),
        ("Pay in cash or by card.", "How do I pay?", "Pay in cash and by card."),
        ("Ada oder Bo prüft den Bericht.", "Wer prüft den Bericht?", "Ada und Bo prüfen den Bericht."),
    ],
    "exchanged words": [
        ("Server A depends on server B.", "What depends on server B?", "Server B depends on server A."),
        ("Replace the red fuse with the blue fuse.", "How?", "Replace the blue fuse with the red fuse."),
        ("The ratio is 3:1.", "What is the ratio?", "The ratio is 1:3."),
        (
            "Mix two parts of sand with one part of lime.",
            "What do I mix?",
            "Mix one part of sand with two parts of lime.",
        ),
    ],
    "spellings of numbers": [
        ("Version 2 needs Python 3.10.", "Which Python?", "Version 2 needs Python 3.1."),
        ("The flat costs 1.200 € per month.", "What does the flat cost?", "The flat costs 1,2 € per month."),
    ],
    "exceptions to a rule": [
        ("Unless you pay, the seat is released.", "When is the seat released?", "If you pay, the seat is released."),
        ("The seat is released unless you pay.", "When is the seat released?", "The seat is released if you pay."),
    ],
    "negations of many languages": [
        ("Muzeum nie jest otwarte w poniedziałek.", "Czy muzeum jest otwarte?", "Muzeum jest otwarte w poniedziałek."),
        ("Muzeum není v pondělí otevřené.", "Je muzeum otevřené?", "Muzeum je v pondělí otevřené."),
        (
            "Το μουσείο δεν είναι ανοιχτό τη Δευτέρα.",
            "Είναι ανοιχτό το μουσείο;",
            "Το μουσείο είναι ανοιχτό τη Δευτέρα.",
        ),
        ("המוזיאון לא פתוח ביום שני.", "האם המוזיאון פתוח?", "המוזיאון פתוח ביום שני."),
        ("Bảo tàng không mở cửa vào thứ hai.", "Bảo tàng mở cửa?", "Bảo tàng mở cửa vào thứ hai."),
        ("Museo ei ole auki maanantaina.", "Onko museo auki?", "Museo on auki maanantaina."),
        ("A múzeum nem nyitott hétfőn.", "Nyitott a múzeum?", "A múzeum nyitott hétfőn."),
        ("Muzeul nu este deschis luni.", "Este deschis muzeul?", "Muzeul este deschis luni."),
        ("Музей закрыт по понедельникам.", "Когда открыт музей?", "Музей открыт по понедельникам."),
        ("Das Museum ist montags nie offen.", "Ist das Museum offen?", "Das Museum ist montags offen."),
    ],
    "flags": [
        ("Use --no-cache to skip the cache.", "Which flag?", "Use --cache to skip the cache."),
        ("Use --no-cache to skip the cache.", "Which flag skips the cache?", "--cache"),
        ("Use --cache to keep the cache.", "Which flag?", "Use --no-cache to keep the cache."),
        ("Never force it. Pass --dry-run to try it.", "Which option?", "Pass --force to try it."),
    ],
    "operators": [
        ("If `a >= b` then stop.", "When do I stop?", "If `a <= b` then stop."),
        ("Set `x = a + b`.", "What is x?", "Set `x = a - b`."),
        ("Set `c = a * b`.", "What is c?", "Set `c = a ** b`."),
        ("The loop ends if x == 3 && y.", "When does the loop end?", "The loop ends if x != 3 && y."),
        ("The loop ends if done && late.", "When does the loop end?", "The loop ends if done || late."),
    ],
    "settings": [
        ("feature_x: false\nfeature_y: true", "Is feature_x on?", "feature_x: true"),
        ("feature_x: false\nfeature_y: true", "What is feature_x?", "true"),
        ("debug = off\ncache = on", "What is debug?", "debug = on"),
        ("name: web\nport: 80\nadmin: 81", "What is the port?", "port: 81"),
    ],
}


TRUE = {
    "names above turns": [
        (STAMPED, "Who needs the van?", "Bo Lind"),
        (STAMPED, "When does the garage open?", "At 7:30."),
    ],
    "names of measures": [
        (LETTER, "What does parking cost per night?", "12 euros"),
        (LETTER, "By what time must I depart?", "By 11:00."),
        (REPORT, "What is the result of zinc?", "12"),
    ],
    "seconds": [
        ("name;time\nAda;3:15:02\nBo;3:15:39\nEva;3:21:10", "What was the time of Ada?", "3:15:02"),
        ("It began at 10:05:59.", "When did it begin?", "At 10:05."),
    ],
    "sentences that speak less of the question": [
        (
            "The session ends after 45 minutes. The breaks take 15 minutes.",
            "After how long does the session end?",
            "45 minutes",
        ),
        (
            "Name: Ana Roy\nAddress: Kade 7, Delft\nNote: Lifts up to 45 tons.",
            "How many tons can Ana Roy lift?",
            "45 tons",
        ),
    ],
    "options of a quiz": [
        (QUIZ, "Which metal melts first?", "Tin"),
        (QUIZ, "Which gas burns?", "Methane"),
        ("How do I begin?\na) Open it.\nb) Fill it.", "How do I begin?", "Fill it."),
    ],
    "records": [
        (KENNELS, "Who keeps the kennel Alder?", "Pia Rex"),
        (KENNELS, "How many dogs are in the kennel Birch?", "7"),
        (SHIPS, "How large is the crew of the Heron?", "11"),
        (SHIPS, "Who is the master of the Osprey?", "Ann Hale"),
        (HEADERS, "Who raised the limit of uploads?", "Kai Lund"),
        ("pool_size = 20\npool_wait = 8\nretries = 3", "What is the pool size?", "20"),
    ],
    "aligned columns": [
        (TIDES, "What is the low water at North Quay?", "0.6 m"),
        (TIDES, "What is the high water at South Quay?", "3.8 m"),
        ("Trim ............ 12 EUR\nDye ............. 40 EUR", "What does a trim cost?", "12 EUR"),
    ],
    "keys of lines": [
        (CODES_OF_EXIT, "What does exit code 3 mean?", "The disk is full."),
        ("A  Weekdays only.\nB  Holidays only.", "What does note B mean?", "Holidays only."),
    ],
    "numbered things": [
        ("The printer in room 3 takes A4. The printer in room 5 takes A3.", "Which paper is in room 5?", "A3"),
        ("Gate 2 leads to Oslo.", "Where does gate 2 lead to?", "Gate 2 leads to Oslo."),
        (
            "[09:12] Ida: The short one, part 4711. The long one is for room 2.",
            "Which part fits the lamp in room 4?",
            "4711",
        ),
    ],
    "speakers": [
        (CREW_CHAT, "Who feeds the cats on Friday?", "Ruth"),
        (CREW_CHAT, "Who said that Ruth feeds the cats?", "Jon"),
    ],
    "titles of sections": [
        (OPENING, "What does a ticket cost?", "six euros"),
        (
            "§ 2 Bicycles\nKeep them in cellar B.\n\n§ 3 Prams\nKeep them in the hall.",
            "Where do I keep prams?",
            "in the hall",
        ),
    ],
    "lists that deny": [
        (MEDICINE, "Where must I not use the cream?", "Do not use the cream near the eyes."),
        (MEDICINE, "Where do I use it sparingly?", "on dry skin"),
    ],
    "empty cells": [
        (DITTO, "Who is the guide on Friday at 15?", "Boris"),
        (DITTO, "Who is the guide on Sunday?", "Clara"),
    ],
    "terms before their definitions": [
        (WORDS, "What is the stem made of?", "larch"),
        ("Chair: Ms Roy. Clerk: Mr Poe.", "Who is the chair?", "Ms Roy"),
    ],
    "parts of a sentence": [
        ("The course starts on 4 May and finishes on 9 July.", "When does the course finish?", "On 9 July."),
        ("Glass is fetched on Monday, the paper on Friday.", "When is the paper fetched?", "On Friday."),
        ("Built by Bo in 1901, the club moved in 1950.", "When was the club built?", "1901"),
        ("Ada Roy, who runs the mill, and Bo Lind signed it.", "Who signed it?", "Ada Roy"),
        ("The pool costs 5 euros for adults and 3 euros for pupils.", "What does the pool cost for pupils?", "3 euros"),
        ("It holds oats (60 %), nuts (12 %) and honey (5 %).", "What share are nuts?", "12 %"),
    ],
    "what was before": [
        ("The limit is 12 MB, formerly 4 MB.", "What was the limit formerly?", "4 MB"),
        ("The age was raised from 16 to 18.", "What is the age?", "18"),
    ],
    "bounds of the question": [
        (
            "Class B is for trips of up to 4 hours. Class D is for trips of more than 4 hours.",
            "Which class for trips of more than 4 hours?",
            "Class D",
        ),
    ],
    "things instead of units": [
        ("At most 30 guests. The fee is 12 euros.", "What is the fee?", "12 euros"),
        ("A set has 40 cards and lasts 15 minutes.", "How many cards has a set?", "40 cards"),
    ],
    "answers of other sentences": [
        ("A locker costs 2 euros. A lost key costs 15 euros.", "What does a locker cost?", "2 euros"),
        ("The owner mends the roof. The tenant mends all other parts.", "Who mends the roof?", "The owner"),
    ],
    "replies": [
        ("Do not wash the lid, it bends.", "Can I wash the lid?", "No."),
        ("Dogs are not allowed.", "Are dogs allowed?", "No."),
        ("Im Hof dürfen keine Räder abgestellt werden.", "Darf man im Hof Räder abstellen?", "Nein."),
        (
            "The meeting no longer ends at five. It ends at six (note #81).",
            "Which note is about the end of the meeting?",
            "#81",
        ),
    ],
    "articles at the beginning": [
        ("He gave me a coin from no known mint.", "What did he give me?", "a coin"),
    ],
    "denials of something else": [
        (OFFLINE, "Does the tool touch the network?", "No, it does not touch the network."),
        (OFFLINE, "Is the office open on Sunday?", "No, the office is not open on Sunday."),
    ],
    "codes": [
        (CODES, "What does LZMA stand for?", "Lempel-Ziv-Markov chain-Algorithm"),
        (CODES, "What does LZMA stand for?", "LZMA stands for Lempel-Ziv-Markov chain-Algorithm."),
    ],
    "replies that a pause parts off": [
        (REPLY, "Can the library handle .zip archives?", "No, the library does not handle .zip archives."),
        (REPLY, "Can the library handle .zip archives?", "No."),
    ],
    "terms with what is said of them below": [
        (GROUPS, "What is the video group for?", "This group can be used to give some users access to a video device."),
        (GROUPS, "What is the audio group for?", "give some users access to an audio device"),
        (OPTIONS, "What is the default of --wait?", "The default is 30."),
        (SHORT_OPTIONS, "What is the default of -t?", "30"),
    ],
    "columns": [
        (FEES, "What does kiln firing cost for guests?", "20 EUR"),
        (FEES, "What does kiln firing cost for guests?", "Kiln firing costs 20 EUR for guests."),
        (FEES, "What does kiln firing cost?", "12 EUR"),
        (FEES, "Which item costs guests 9 EUR?", "Lathe"),
        (STOCK, "What is the selling price of P-1?", "7"),
        ("| Team | Lead | Deputy |\n|---|---|---|\n| Red | Ada | Bo |", "Who is the deputy of team Red?", "Bo"),
    ],
    "what is the same": [
        ("The capital of Norway is Oslo.", "What is the capital of Norway?", "Oslo"),
        ("The capital of Norway is Oslo.", "What is the capital of Norway?", "Oslo."),
        ("The capital of Norway is Oslo.", "What is the capital of Norway?", "Oslo is the capital of Norway."),
        ("The capital of Norway is Oslo.", "What is the capital of Norway?", "The capital is Oslo"),
        ("The winner was C.", "Who was the winner?", "C"),
        ("The winner was Clara.", "Who was the winner?", "Clara was the winner."),
        ("서울은 대한민국의 수도이다.", "대한민국의 수도는 어디인가?", "서울"),
        ("The CEO of Acme is Bo Lind.", "Who is the CEO?", "Bo Lind is Acme's CEO."),
        ("The CEO of Acme is Bo Lind.", "Who is the CEO of Acme?", "Bo Lind"),
        ("Die Hauptstadt von Norwegen ist Oslo.", "Was ist die Hauptstadt von Norwegen?", "Oslo"),
        ("La capitale de la Norvège est Oslo.", "Quelle est la capitale de la Norvège ?", "Oslo"),
        ("La capital de Noruega es Oslo.", "¿Cuál es la capital de Noruega?", "Oslo"),
        ("The capital of Norway is Oslo. The capital of Peru is Lima.", "What is the capital of Norway?", "Oslo"),
        ("The parent company of Acme is Globex.", "Who is the parent company of Acme?", "Globex"),
    ],
    "lists of steps": [
        (
            "1. Open the panel.\n2. Hold key 3.\n3. Close the panel.",
            "How do I reset?",
            "1. Open the panel.\n2. Hold key 3.\n3. Close the panel.",
        ),
        (
            "# How to reset\n\n1. Open the panel.\n2. Hold key 3.\n3. Close the panel.",
            "How do I reset?",
            "1. Open the panel.\n2. Hold key 3.\n3. Close the panel.",
        ),
        (
            "1. Open the panel.\n2. Hold key 3.\n3. Close the panel.",
            "How do I reset the pump?",
            "1. Open the panel.\n2. Hold key 3.\n3. Close the panel.",
        ),
    ],
    "prefixes": [
        ("Only members may vote.", "Who may vote?", "Only members may vote."),
        ("Payments are non-refundable.", "Are payments refundable?", "Payments are not refundable."),
        ("Payments are non-refundable.", "Are payments refundable?", "Payments are nonrefundable."),
        ("The form is un-signed.", "How is the form?", "The form is unsigned."),
    ],
    "exceptions": [
        (
            "Alle Zimmer außer Zimmer 4 haben Balkon.",
            "Welche Zimmer haben Balkon?",
            "Alle Zimmer außer Zimmer 4 haben Balkon.",
        ),
        ("All rooms except room 4 have a balcony.", "Which rooms have a balcony?", "All rooms except room 4."),
        (
            "All rooms except room 4 have a balcony.",
            "Which rooms have a balcony?",
            "All rooms apart from room 4 have a balcony.",
        ),
        (
            "Toutes les chambres sauf la chambre 4 ont un balcon.",
            "Quelles chambres ont un balcon ?",
            "Toutes les chambres sauf la chambre 4 ont un balcon.",
        ),
        ("The shop is open every day except Sunday.", "When is the shop open?", "Every day except Sunday."),
    ],
    "clauses with one verb": [
        ("Ada handles invoices and Bo handles refunds.", "Who handles refunds?", "Bo handles refunds."),
        ("Ada handles invoices and Bo handles refunds.", "Who handles refunds?", "Bo"),
        (
            "Ada handles invoices and Bo handles refunds.",
            "Who handles what?",
            "Ada handles invoices and Bo handles refunds.",
        ),
        ("Mia paints doors and Tom paints walls.", "Who paints walls?", "Walls are painted by Tom."),
        ("He works at the mill and she works at the school.", "Where does she work?", "She works at the school."),
        ("Ada handles invoices and refunds.", "Who handles refunds?", "Ada handles refunds."),
        ("Ada and Bo handle refunds.", "Who handles refunds?", "Ada handles refunds."),
        ("Ada handles invoices and signs releases.", "Who signs releases?", "Ada signs releases."),
    ],
    "ends of a change": [
        ("The tax rose from 5 to 8 percent.", "How did the tax change?", "The tax rose from 5 to 8 percent."),
        ("The tax rose from 5 to 8 percent.", "How did the tax change?", "The tax rose to 8 percent from 5 percent."),
        ("The tax rose from 5 to 8 percent.", "How did the tax change?", "The tax rose to 8 percent."),
        ("Der Preis stieg von 5 auf 8 Euro.", "Wie stieg der Preis?", "Der Preis stieg von 5 auf 8 Euro."),
        ("The office is open from 9 to 17.", "When is the office open?", "The office is open from 9 to 17."),
        ("The office is open from 9:00 to 17:00.", "When is the office open?", "From 9:00 to 17:00."),
        ("Temperatures range from 3 to 9 degrees.", "What is the range?", "Between 3 and 9 degrees."),
    ],
    "relations": [
        ("Oslo is north of Rome.", "Where is Oslo?", "Oslo is north of Rome."),
        ("Oslo is north of Rome.", "Where is Rome?", "Rome is south of Oslo."),
        ("Oslo is north of Rome.", "Where is Oslo?", "North of Rome."),
        ("Ann is the mother of Max.", "Who is the mother of Max?", "Ann"),
        ("Ann is the mother of Max.", "Who is the mother of Max?", "The mother of Max is Ann."),
        ("Linz liegt westlich von Wien.", "Wo liegt Linz?", "Linz liegt westlich von Wien."),
        ("The bank is opposite the school.", "Where is the bank?", "The bank is opposite the school."),
    ],
    "names of code": [
        ("Call getUserById to load the user.", "What loads the user?", "getUserById"),
        ("Call getUserById to load the user.", "What loads the user?", "`getUserById()`"),
        ("The file is /etc/app/main.conf.", "Which file?", "The file is /etc/app/main.conf."),
        ("The file is /etc/app/main.conf.", "Which file?", "/etc/app/main.conf"),
        ("The file is /etc/app/main.conf.", "Which file?", "main.conf"),
        ("Open config.yaml to change it.", "Which file?", "Open config.yaml."),
        ("Pass --dry-run to try it.", "Which option?", "Pass --dry-run."),
        ("The class UserStore keeps users.", "Which class keeps users?", "UserStore"),
    ],
    "ranks": [
        ("It is the second largest city.", "What is it?", "It is the second largest city."),
        ("It is the second-largest city.", "What is it?", "It is the second largest city."),
        ("Das ist die zweitgrößte Stadt.", "Was ist das?", "Das ist die zweitgrößte Stadt."),
    ],
    "directions": [
        ("Put it in with the chip facing up.", "How?", "Put it in with the chip facing up."),
        ("Pull the pin out.", "How?", "Pull out the pin."),
    ],
    "possibilities": [
        ("The patch may fix the crash.", "What does the patch do?", "The patch may fix the crash."),
        ("The patch may fix the crash.", "What does the patch do?", "The patch might fix the crash."),
        ("The patch may fix the crash.", "What may fix the crash?", "The patch"),
        ("Members may enter.", "Who may enter?", "Members"),
        ("You can pay with a card.", "How can I pay?", "Pay with a card."),
        ("You can pay with a card.", "How can I pay?", "With a card."),
        (
            "Visitors may leave coats at the desk.",
            "Where do visitors leave coats?",
            "Visitors leave their coats at the desk.",
        ),
        ("Guests can use the pool.", "What can guests use?", "Guests use the pool."),
    ],
    "numbers": [
        ("The peak is 8 848 m high.", "How high?", "The peak is 8848 m high."),
        ("The peak is 8\xa0848 m high.", "How high?", "8848 m"),
        ("The peak is 8\u2009848 m high.", "How high?", "8,848 m"),
        ("La route fait 1 200,50 km.", "Combien ?", "La route fait 1200,5 km."),
        ("The road is 1 200,50 km.", "How long?", "1200,5 km"),
        ("Add ½ cup of milk.", "How much milk?", "Add half a cup of milk."),
        ("Add 1½ cups of milk.", "How much milk?", "Add 1.5 cups of milk."),
        ("She lent her brother 500 euros.", "Who lent what?", "She lent her brother 500 euros."),
    ],
    "other words": [
        ("Children under 12 travel free.", "Who travels free?", "Children younger than 12 travel free."),
        ("At least three people must sign.", "Who must sign?", "Three or more people must sign."),
        (
            "The pump must be cleaned every week with warm water.",
            "How is the pump cleaned?",
            "You clean the pump with warm water every week.",
        ),
        (
            "The pump must be cleaned every week with warm water.",
            "How is the pump cleaned?",
            "Clean the pump every week with warm water.",
        ),
        (
            "Der Antrag muss bis zum 3. Mai gestellt werden.",
            "Bis wann?",
            "Sie müssen den Antrag bis zum 3. Mai stellen.",
        ),
        ("name: payments\nport: 8443", "What port does payments use?", "payments uses port 8443."),
        (
            "name: payments\nport: 8443\n\nname: users\nport: 9000",
            "What port does payments use?",
            "payments uses port 8443.",
        ),
        ("name: payments\nport: 8443\n\nname: users\nport: 9000", "What port does payments use?", "8443"),
        ("To square it write `x = y ** 2`.", "How do I square?", "`x = y ** 2`"),
        ("To list files run:\n\n```\nls -la\n```", "How do I list files?", "```\nls -la\n```"),
        ("To list files run:\n\n```\nls -la\n```", "How do I list files?", "`ls -la`"),
    ],
    "plans": [
        ("Acme plans to buy Globex.", "What does Acme plan to buy?", "Globex"),
        ("Acme plans to buy Globex.", "What about Globex?", "Acme planned to buy Globex."),
        ("Acme tried to buy Globex and bought it.", "What about Globex?", "Acme bought Globex."),
        ("The shop will close at nine.", "When does the shop close?", "The shop closes at nine."),
        ("The brush is used to clean the pump.", "What cleans the pump?", "The brush cleans the pump."),
        ("You must wear gloves.", "What about gloves?", "You must wear gloves."),
    ],
    "alternatives": [
        ("You can pay in cash or by card.", "How can I pay?", "You can pay in cash and by card."),
        ("Ada and Bo will sign.", "Who will sign?", "Bo and Ada will sign."),
    ],
    "exchanged words": [
        ("Ada works with Bo.", "Who works with Bo?", "Bo works with Ada."),
        ("The flag is red and green.", "What colours has the flag?", "The flag is green and red."),
        ("Replace the red fuse with the blue fuse.", "What is replaced?", "Replace the red fuse with the blue fuse."),
    ],
    "spellings of numbers": [
        ("Version 2 needs Python 3.10.", "Which Python?", "Version 2 needs Python 3.10."),
        ("The flat costs 1.200 € per month.", "What does the flat cost?", "The flat costs 1200 € per month."),
        ("The flat costs 3.50 € per hour.", "What does the flat cost?", "The flat costs 3.5 € per hour."),
    ],
    "exceptions to a rule": [
        (
            "Unless you pay, the seat is released.",
            "When is the seat released?",
            "If you do not pay, the seat is released.",
        ),
        ("The seat is released unless you pay.", "When is the seat released?", "The seat is released unless you pay."),
        ("The seat is released unless you pay.", "When is the seat released?", "Unless you pay, the seat is released."),
    ],
    "negations of many languages": [
        (text, question, text) for text, question, _ in FALSE["negations of many languages"]
    ],
    "flags": [
        ("Use --no-cache to skip the cache.", "Which flag skips the cache?", "--no-cache"),
        ("Use --no-cache to skip the cache.", "Which flag?", "Use `--no-cache` to skip the cache."),
    ],
    "operators": [
        ("If `a >= b` then stop.", "When do I stop?", "Stop if a is at least b."),
        ("Set `c = a * b`.", "What is c?", "`c = a * b`"),
    ],
    "settings": [
        ("feature_x: false\nfeature_y: true", "What is feature_x?", "feature_x is false."),
        ("feature_x: false\nfeature_y: true", "Is feature_y on?", "feature_y: true"),
        ("name: payments\nport: 8443\nhost: db1", "What is the name of the host?", "db1"),
    ],
}


def each(kinds):
    return [pytest.param(*case, id=f"{kind}: {case[2]}") for kind, cases in kinds.items() for case in cases]


@pytest.mark.parametrize(("text", "question", "answer"), each(FALSE))
def test_a_small_change_that_makes_an_answer_false_is_seen(text, question, answer):
    assert not is_supported(text, question, answer)


@pytest.mark.parametrize(("text", "question", "answer"), each(TRUE))
def test_an_answer_that_says_the_same_is_supported(text, question, answer):
    assert is_supported(text, question, answer)
