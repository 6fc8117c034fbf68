"""Language consistency over many languages, mixtures, code, LaTeX and hostile text."""

from __future__ import annotations

import time

import pytest

from r1rl_rewards.language import LATIN, SCRIPTS, consistency, language

TEXTS = {
    "en": "Okay, let me think about this. First I need to find how many eggs Janet sells each day. She lays 16 eggs, "
    "eats 3 and bakes with 4. So $16 - 3 - 4 = 9$ are left. Wait, let me check that again.",
    "de": "Zuerst muss ich herausfinden, wie viele Eier Janet jeden Tag verkauft. Die Enten legen sechzehn Eier, sie "
    "isst drei davon und backt mit vier. Dann bleiben neun Eier übrig. Moment, ich prüfe das noch einmal.",
    "fr": "Je dois d'abord trouver combien d'œufs Janet vend chaque jour. Les canards pondent seize œufs, elle mange "
    "trois et en utilise quatre. Il reste donc neuf œufs.",
    "es": "Primero necesito encontrar cuántos huevos vende Janet cada día. Los patos ponen dieciséis huevos, ella come "
    "tres y hornea con cuatro. Entonces quedan nueve huevos. Espera, déjame comprobarlo otra vez.",
    "it": "Prima devo trovare quante uova vende Janet ogni giorno. Le anatre depongono sedici uova, lei ne mangia tre.",
    "pt": "Primeiro preciso descobrir quantos ovos Janet vende por dia. As patas põem dezesseis ovos, ela come três.",
    "nl": "Eerst moet ik uitzoeken hoeveel eieren Janet per dag verkoopt. De eenden leggen zestien eieren per dag.",
    "pl": "Najpierw muszę znaleźć, ile jajek Janet sprzedaje każdego dnia. Kaczki znoszą szesnaście jajek dziennie.",
    "tr": "Önce Janet'in her gün kaç yumurta sattığını bulmam gerekiyor. Ördekler her gün on altı yumurta yumurtluyor.",
    "vi": "Trước tiên tôi cần tìm số trứng mà Janet bán mỗi ngày. Những con vịt đẻ mười sáu quả trứng mỗi ngày.",
    "id": "Pertama saya perlu mencari berapa banyak telur yang dijual Janet setiap hari. Bebek bertelur enam belas.",
    "zh": "首先我需要找出珍妮特每天卖多少个鸡蛋。鸭子每天下16个蛋，她吃三个，用四个做松饼。所以剩下九个。",
    "ja": "まず、ジャネットが毎日売る卵の数を求めます。アヒルは毎日16個の卵を産み、三個を食べます。",
    "ko": "먼저 재닛이 매일 파는 달걀의 수를 구해야 합니다. 오리는 하루에 16개의 알을 낳습니다.",
    "ru": "Сначала нужно найти, сколько яиц Джанет продаёт каждый день. Утки несут шестнадцать яиц.",
    "ar": "أولا أحتاج إلى معرفة عدد البيض الذي تبيعه جانيت كل يوم.",
    "hi": "पहले मुझे यह पता लगाना होगा कि जेनेट प्रतिदिन कितने अंडे बेचती है।",
    "th": "ก่อนอื่นฉันต้องหาว่าเจเน็ตขายไข่กี่ฟองต่อวัน",
    "el": "Πρώτα πρέπει να βρω πόσα αυγά πουλάει η Τζάνετ κάθε μέρα.",
    "he": "ראשית עלי למצוא כמה ביצים מוכרת ג'נט בכל יום.",
}


@pytest.mark.parametrize("code", TEXTS)
def test_a_text_is_in_its_own_language_and_no_other(code: str) -> None:
    assert consistency(TEXTS[code], code) >= 0.99
    for other in TEXTS:
        if other != code:
            assert consistency(TEXTS[code], other) <= 0.3, other  # short clauses of kanji may be either


@pytest.mark.parametrize("other", ["zh", "ru", "de", "fr"])
def test_a_mixture_counts_by_words(other: str) -> None:
    ours, theirs = (
        consistency(f"{TEXTS['en']} {TEXTS[other]}", "en"),
        consistency(f"{TEXTS['en']} {TEXTS[other]}", other),
    )
    assert 0.2 < ours < 0.8
    assert ours + theirs == pytest.approx(1.0, abs=0.12)


def test_only_the_thought_is_judged() -> None:
    texts = [f"<think>{TEXTS['en']}</think>{TEXTS['zh']}", f"<think>{TEXTS['zh']}</think>{TEXTS['en']}"]
    assert language(texts, target="en") == [1.0, 0.0]
    assert language([f"{TEXTS['en']}</think>{TEXTS['zh']}"], prefill=["<think>"], target="en") == [1.0]


def test_code_latex_and_formulas_are_left_out() -> None:
    noise = "```python\nprint('hola mundo esto es una prueba')\n``` `nombre_largo` $x = \\text{wenn das gilt}$ "
    noise += "\\(\\text{falls}\\) \\[ \\operatorname{rang} \\] \\begin{align} \\text{sonst} \\end{align} sin cos x y z"
    assert consistency(noise, "en") == 0.0  # no word at all
    assert consistency(noise + TEXTS["en"], "en") == 1.0
    assert consistency(noise + TEXTS["zh"], "zh") == 1.0


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(ValueError, match="no target 'english'; did you mean 'en'"):
        language(["a"], target="english")
    assert not set(SCRIPTS) & set(LATIN)


@pytest.mark.parametrize(
    "piece",
    ["a", "a'", "```", "$", "\\(", "\\[ x", "\\begin{a} ", "\\a{", "`", "<a", "https://", "1_", "漢", "é", "\ud800"],
)
def test_hostile_text_takes_linear_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    started = time.process_time()
    assert 0.0 <= consistency(text, "en") <= 1.0
    assert time.process_time() - started < 3.0
