"""Untrusted text on a page: nothing ends the script element, nothing hides, nothing is lost."""

import json
import sys
import unicodedata

import pytest

from regap_benchmarks.report.page.untrusted_text import cut, script_json, visible

ATTACKS = (
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "]]>",
    "a & b &lt; c",
    "line\u2028and\u2029paragraph",
    "lone \ud800 surrogate \udfff",
    "tag \U000e0041",
    "nul \u0000 and escape \u001b[31m",
    "\u202eevil\u202c",
    '"}\\u003c',
)


@pytest.mark.parametrize("text", ATTACKS)
def test_json_in_a_script_is_read_back_and_holds_no_markup(text):
    written = script_json({"text": [text, {text: None}]})
    assert json.loads(written) == {"text": [text, {text: None}]}
    assert not set(written) & set("<>&\u2028\u2029\u202e\U000e0041")
    written.encode("utf-8")


def test_a_number_that_json_lacks_is_refused():
    with pytest.raises(ValueError, match="JSON compliant"):
        script_json(float("nan"))


def test_every_character_that_hides_or_turns_text_is_shown():
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    known = {0xAD, 0x61C, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF, 0xE0041}
    for code in range(sys.maxunicode + 1):
        letter = chr(code)
        kind, turns = unicodedata.category(letter), unicodedata.bidirectional(letter) in turning
        if kind in ("Cc", "Cs", "Zl", "Zp") or turns or code in known:
            shown = letter if letter in "\t\n\r" else f"[U+{code:04X}]"
            assert visible(letter) == shown
        elif kind[0] in "LMNPSZ":
            assert visible(letter) == letter


def test_the_rest_stays_as_it_is():
    text = "Zürich, 東京, \u0645\u0631\u062d\u0628\u0627, \U0001f468\u200d\U0001f469 <b> & \n\ttab"
    assert visible(text) == text


def test_a_cut_is_marked_and_on_one_line():
    assert cut("short\n  name", 20) == "short name"
    assert cut("a" * 50, 10) == "a" * 9 + "\u2026"
    assert cut("\u202e" * 50, 10) == "[U+202E][\u2026"
