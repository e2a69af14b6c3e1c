"""mask_personal: what is a mail address or telephone number, and what only looks like one."""

from __future__ import annotations

import pytest

from tests.contracts.rule_contract import RuleContract
from textmill.rules import RULES, find_rules

apply = RULES["mask_personal"].apply


class TestMaskPersonal(RuleContract):
    rule = RULES["mask_personal"]
    changed = [  # noqa: RUF012
        ("Write to jo.miller+news@mill-race.co.uk, or mailto:x@y.de.", "Write to EMAIL, or EMAIL."),
        ("Call +49 30 1234567 or (212) 555-0142!", "Call PHONE or PHONE!"),
        ("Phone number: 555-0142, fax 1234567.", "Phone number: PHONE, fax PHONE."),
        ("ünal@пример.рф", "EMAIL"),
    ]


@pytest.mark.parametrize(
    "number",
    """+1 212 555 0142|+1 (212) 555-0142|212-555-0142|1-800-555-0199|212.555.0142|+442079460958|020 7946 0958
0171/1234567|0171 123 45 67|(030) 1234567|01 23 45 67 89|01.23.45.67.89|0049 30 1234567|+33 1 23 45 67 89
+86 138 0013 8000|+7 (495) 123-45-67|+49 (0) 30 1234567|(212)555-0142""".replace("\n", "|").split("|"),
)
def test_telephone_numbers(number: str) -> None:
    for before, after in [
        (number, "PHONE"),
        (f"Ring {number}, please.", "Ring PHONE, please."),
        (f"({number})", "(PHONE)"),
    ]:
        assert apply(before).text == after


@pytest.mark.parametrize(
    "text",
    """1914-1918|2001-2002|the years 2010 2011 2012 2013|1990 1991-1995|2025-11-21|21.11.2025|01-02-2003|01.02.2003 12
102-98|2-1, 3-0, 4-4|6-4 7-6 6-3|episodes 1-274|EP 1–274|S01E05|chapter 212 300 1200|1,000,000|1 000 000|12 345 678 901
978-3-16-148410-0|ISBN 978 3 16 148410 0|192.168.0.1|12:30|00:01:23,456 --> 00:01:25,000|1234567890|3.14159265
0.123456789|20251121|$212-555|52.5200, 13.4050|100 200 300|007 0815|page 020 7946|10000000000|phone 2001-2002
phone 21.11.2025|telephones 5, 6 and 7|#0171 1234567|/0171/1234567|a telling 12345 of them|€0171 1234567
someone@home|@name|a@b|price @ 10.50|x@y@z.de""".replace("\n", "|").split("|"),
)
def test_what_is_none(text: str) -> None:
    assert apply(text).text == text


def test_kinds_are_counted_and_can_be_chosen() -> None:
    text = "a@b.de, c@d.de or +49 30 1234567"
    assert apply(text).counts == {"mail": 2, "phone": 1}
    (mail_only,) = find_rules("mask_personal(phone=no)")
    assert mail_only.apply(text).text == "EMAIL, EMAIL or +49 30 1234567"
