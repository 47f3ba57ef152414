"""Which encoding a text file has, and its text piece by piece; None rather than characters that nobody wrote.

Unicode is recognised by its form: a mark at the beginning, or bytes that are valid UTF-8 to the end. The encodings of
East Asia all accept one another's bytes, so they are told apart by what they make of them: the right one gives the
characters that every text of its language is full of.
"""

import codecs
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

_SAMPLE_BYTES = 128 * 1024
_LINE_BYTES = 1024
CHUNK_BYTES = 256 * 1024
"""How much of a file a piece of its text is made of."""

_DECLARED = re.compile(
    rb"""<\?xml[^>]{0,200}encoding=["']([A-Za-z0-9_-]+)["']|<meta[^>]{0,200}charset=["']?([A-Za-z0-9_-]+)""",
    re.IGNORECASE,
)
_READ = re.compile(r"utf-?8|big5|euc|shift|sjis|iso-?8859|windows-|cp\d|koi8|latin|us-ascii|ascii|tis-")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes(sorted({*range(1, 32)} - set(b"\t\n\r\f\x08\x1b")))

_ZH_HANS = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现"
    "当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最"
    "重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义"
    "各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科"
    "司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运"
)
_ZH_HANT = (
    "的一是不了在人有我他這個們中來上大為爲和國地到以說時要就出會可也你對生能而子那得於着著下自之年過發後作裏裡用道行所然家種事成方多經麼去法學如"
    "都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明性知全三又關點正業外將兩高間由"
    "問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果加西斯月話合回特代內信表化老給世位次度門任常先海通教兒原東聲提立及比員解水名真論"
    "處走義各入幾口認條平系氣題活爾更別打女變四神總何電數安少報才結反受目太量再感建務做接必場件計管期市直德資命山金指克許統區保至隊形社便空決治"
    "展馬科司五基眼書非則聽白卻界達光放強即像難且權思王象完設式色路記南品住告類求據程北邊死張該交規萬取拉格望覺術領共確傳師觀清今切院讓識候帶導"
)
_KANA = "".join(map(chr, [*range(0x3041, 0x3097), *range(0x30A1, 0x30FB)]))
_KO = (
    "이다는의에을를가고은하지도로한사기인시어나리대정자서해아그수일부과보원제전상주장성국관공구여들있것적되했습니까요안"
)

_EAST_ASIA = (
    ("gb18030", frozenset(_ZH_HANS)),
    ("big5hkscs", frozenset(_ZH_HANT)),
    ("cp932", frozenset(_KANA)),
    ("euc_jp", frozenset(_KANA)),
    ("cp949", frozenset(_KO)),
)
_ENOUGH = 0.12
"""The share of common characters from which on a text counts as one of its language: about 0.5 in prose, a tenth in
lists of names, far less where bytes are read in the wrong encoding."""

_CLEARLY = 0.05
_MOST_FLAWS = 1000


_WESTERN = frozenset("éèàùçêîôûâëïüöäßñáíóúãõœæøåÉÈÀÇÜÖÄÅØÑÁÍÓÚ¿¡«»’‘“”–—€£§°…")


def encoding_of(path: Path, declared: str = "") -> str | None:
    """Return the codec of a text file; None when it is no text.

    `declared` is what the file says of itself (`declared_in`): believed where it is no UTF-8, and all of it can be
    read so.
    """
    sample = _sample(path)
    for mark, codec in _MARKS:
        if sample.startswith(mark):
            return codec
    if b"\0" in sample and (codec_found := _utf_16(sample)):
        return codec_found
    if not _is_text(sample):
        return None
    flaws, first = _flaws(path)
    if not flaws:
        return "utf-8"
    if declared and _decodes(path, declared):
        return declared
    if first >= len(sample):  # all of it ASCII until here: what comes now says what it is
        sample = _sample(path, first)
    if codec_found := _by_characters(sample):
        return codec_found
    # UTF-8 that somebody has cut or patched: nearly all that is not ASCII is still valid.
    beyond_ascii = sum(byte >= 0x80 for byte in sample)
    if flaws * 20 <= max(beyond_ascii, 20) and flaws < _MOST_FLAWS:
        return "utf-8"
    return _western(sample) or _by_library(sample)


def declared_in(head: bytes) -> str:
    """Return the encoding that the beginning of a page of XML or HTML names, "" where it names none that we read."""
    found = _DECLARED.search(head)
    name = next(filter(None, found.groups()), b"").decode("ascii").lower() if found else ""
    return "gb18030" if name.startswith("gb") else name if _READ.match(name) else ""


def _sample(path: Path, start: int = 0) -> bytes:
    """Return the bytes from a line's beginning before `start` on."""
    with path.open("rb") as file:
        file.seek(max(start - _LINE_BYTES, 0))
        before = file.read(start - file.tell())
        file.seek(start - len(before) + before.rfind(b"\n") + 1)
        return file.read(_SAMPLE_BYTES)


def _decodes(path: Path, codec: str) -> bool:
    """Whether all bytes of a file are characters of an encoding."""
    try:
        decoder = codecs.getincrementaldecoder(codec)("strict")
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except (LookupError, UnicodeError):
        return False
    return True


def text_of(path: Path, codec: str) -> Iterator[str]:
    """Yield the text in pieces: line ends are `\\n`, NULs are left out, bytes that are no characters are U+FFFD."""
    decoder = codecs.getincrementaldecoder(codec)("replace")
    held = ""  # a carriage return whose line feed may come
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            text = held + decoder.decode(chunk)
            held = "\r" if text.endswith("\r") else ""
            yield _plain(text[: len(text) - len(held)])
    yield _plain(held + decoder.decode(b"", final=True))


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _is_text(sample: bytes) -> bool:
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    return controls * 100 <= len(sample) and sample.count(0) * 20 <= len(sample)


def _flaws(path: Path) -> tuple[int, int]:
    """Return how many places of a file are no UTF-8, and about where the first is.

    They are counted until they are too many; a cut end is none.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    lenient = codecs.getincrementaldecoder("utf-8")("replace")
    flaws = first = read = 0
    with path.open("rb") as file:
        while flaws < _MOST_FLAWS and (chunk := file.read(CHUNK_BYTES)):
            if not flaws:
                kept = decoder.getstate()
                try:
                    decoder.decode(chunk)
                    read += len(chunk)
                    continue
                except UnicodeDecodeError as error:
                    first = read + max(error.start - len(kept[0]), 0)
                    lenient.setstate(kept)
            flaws += lenient.decode(chunk).count("\ufffd")
    return flaws, first


def _utf_16(sample: bytes) -> str | None:
    """Return which UTF-16 a text without a mark is: its Latin letters have their zeros all on one side."""
    low, high = sample[1::2].count(0), sample[0::2].count(0)
    for codec, zeros, others in (("utf-16-le", low, high), ("utf-16-be", high, low)):
        if others * 20 < zeros and sample[:2] != b"\0\0":
            text = sample[: len(sample) // 2 * 2].decode(codec, "replace")
            wrong = sum(unicodedata.category(character) in ("Cn", "Co", "Cs") for character in text[:4096])
            if (wrong + text[:4096].count("\ufffd")) * 50 <= min(len(text), 4096):
                return codec
    return None


def _by_characters(sample: bytes) -> str | None:
    """Return the encoding of East Asia whose language the text is written in, None when it is in none of them."""
    best, best_share = None, _ENOUGH
    for codec, common in _EAST_ASIA:
        share = _share(sample, codec, common)
        if share > best_share + (_CLEARLY if best else 0):
            best, best_share = codec, share
    if best is None and _share(sample, "gb2312", frozenset()) >= 0:
        return "gb18030"  # names and rare words, nothing common among them
    return best


def _share(sample: bytes, codec: str, common: frozenset[str]) -> float:
    """Return the share of common characters among those beyond ASCII; -1 when the bytes are not in this encoding."""
    text = sample.decode(codec, "replace").rstrip("\ufffd")
    beyond = [character for character in text if character >= "\x80"]
    wrong = sum(character == "\ufffd" or "\ue000" <= character <= "\uf8ff" for character in beyond)
    if not beyond or wrong * 100 > len(beyond):
        return -1.0
    letters = [character for character in beyond if character.isalpha()]
    return sum(character in common for character in letters) / max(len(letters), 1)


def _western(sample: bytes) -> str | None:
    """Return the encoding of Western Europe for Latin letters with its accents among them."""
    text = sample.decode("cp1252", "replace")
    beyond = [character for character in text if character >= "\x80"]
    known = sum(character in _WESTERN for character in beyond)
    letters = sum(character.isalpha() for character in text)
    return "cp1252" if known * 20 >= len(beyond) * 19 and len(beyond) * 4 < letters else None


def _by_library(sample: bytes) -> str | None:
    """Return what a general detector says, for the languages that are not looked for here."""
    import charset_normalizer  # for few files: they need not all wait for it

    found = charset_normalizer.from_bytes(sample).best()
    if found is None or re.fullmatch("utf_?7|hz|.*2022.*", found.encoding):
        return None
    return found.encoding


__all__ = ["CHUNK_BYTES", "encoding_of", "text_of"]
