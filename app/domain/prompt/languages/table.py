"""What a language's file holds, and how its words are compared with a prompt's."""

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

# Traditional characters that occur in the tables, as the simplified ones that the tables use.
_SIMPLIFIED = str.maketrans(
    "鏡頭縮動轉環繞遠進後風飄揚煙霧雲飛髮樹葉靜無別讓輕緩強烈劇鐘順時針畫懸搖擺視話說眼開關閉變"
    "將輛馬車鳥處漣漪蕩漾掃過並與間慢浪滾燒閃爍爆發現換對焦隨個這來從給請裡著單獨僅鬍裙煙帶國旗幟寫們顯",
    "镜头缩动转环绕远进后风飘扬烟雾云飞发树叶静无别让轻缓强烈剧钟顺时针画悬摇摆视话说眼开关闭变"
    "将辆马车鸟处涟漪荡漾扫过并与间慢浪滚烧闪烁爆发现换对焦随个这来从给请里着单独仅胡裙烟带国旗帜写们显",
)


def fold(text: str) -> str:
    """A word as the tables have it: no case, accents or marks, one width, simplified Han.

    The marks of kana stay: they make other sounds, and so other words.
    """
    if text.isascii():
        return "".join(filter(str.isalnum, text)).lower()
    plain = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    plain = "".join(c for c in plain if unicodedata.category(c)[0] in "LN" or c in "\u3099\u309a")
    return unicodedata.normalize("NFC", plain).translate(_SIMPLIFIED)


@dataclass(frozen=True)
class Table:
    """A language's words. Keys are folded."""

    entries: Mapping[str, tuple[str, ...]]
    phrases: Mapping[tuple[str, ...], tuple[str, ...]]  # words in a row; no entry: no meaning
    function_words: frozenset[str]  # no meaning of their own; never listed as ignored
    style_words: frozenset[str] = frozenset()  # they describe the clip, not a thing in it

    def knows(self, word: str) -> bool:
        return word in self.entries or word in self.function_words or word in self.style_words


def spellings(word: str) -> set[str]:
    """A word folded, and with "ae" for "ä"."""
    plain = word.casefold()
    spelled_out = plain.replace("ä", "ae").replace("ö", "oe").replace("ü", "ue")
    return {fold(word), fold(spelled_out)}


def build(
    words: Mapping[str, str],
    phrases: Mapping[str, str],
    function_words: str,
    style_words: str = "",
    *,
    forms: Callable[[str, str], list[str]],
) -> Table:
    """A table from lists of forms separated by spaces. `forms`: of a verb "stem-ending"."""
    entries = {
        spelled: tuple(means.split())
        for means, listed in words.items()
        for form in _every(listed, forms)
        for spelled in spellings(form)
    }
    folded = {
        tuple(fold(word) for word in phrase.replace("'", " ").split()): tuple(means.split())
        for phrase, means in phrases.items()
    }
    function = frozenset(fold(word) for word in function_words.split())
    style = frozenset(fold(word) for word in style_words.split())
    return Table(entries, folded, function, style)


def _every(listed: str, forms: Callable[[str, str], list[str]]) -> Iterator[str]:
    for each in listed.split():
        stem, hyphen, ending = each.partition("-")
        yield from forms(stem, ending) if hyphen else [each]
