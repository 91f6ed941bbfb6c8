from __future__ import annotations

import random
import time

import numpy as np
import pytest

from differential import agrees_with_inference, close
from sardonyx.errors import ExecutionError, InferenceError, LimitError, ModelError, UnsupportedError
from sardonyx.ops.fact import Fact
from single_operator import apply, assert_same, by_onnxruntime, inferred


def texts(*items, shape=None):
    array = np.empty(len(items), object)
    array[:] = items
    return array if shape is None else array.reshape(shape)


def compare(name, x, *more, n_outputs=1, version=20, **attributes):
    ours = apply(name, x, *more, version=version, n_outputs=n_outputs, **attributes)
    theirs = by_onnxruntime(name, x, *more, version=version, n_outputs=n_outputs, **attributes)
    assert_same(ours, theirs)
    if x.size:
        options = {"version": version, "n_outputs": n_outputs, **attributes}
        agrees = inferred(name, Fact.constant(x), *more, **options)
        for fact, output in zip(agrees, ours, strict=True):
            for dim, size in zip(fact.shape, output.shape, strict=True):
                assert dim is None or dim == size
    return ours


def test_concat_broadcasts():
    x, y = texts("a", "é", "", "z", shape=(4, 1)), texts("x", "日本", "")
    compare("StringConcat", x, y)
    agrees_with_inference("StringConcat", x, y, outputs=apply("StringConcat", x, y))
    assert apply("StringConcat", texts("a", shape=()), texts("b", shape=()))[0].shape == ()


def test_concat_checks_the_size_before_it_allocates():
    x = np.broadcast_to(texts("x" * (1 << 20)), (1 << 10, 1 << 10))
    with pytest.raises(LimitError, match="tensor bytes"):
        apply("StringConcat", x, texts(""))


@pytest.mark.parametrize("delimiter", [None, "", ",", "ab"])
@pytest.mark.parametrize("maxsplit", [None, 0, 1, 2, 100, 1 << 62])
def test_split(delimiter, maxsplit):
    given = {"delimiter": delimiter, "maxsplit": maxsplit}
    attributes = {key: value for key, value in given.items() if value is not None}
    x = texts("", "a b  c ", " x,y,,z", "abab", "日 本,", "   ", shape=(2, 3))
    compare("StringSplit", x, n_outputs=2, **attributes)
    compare("StringSplit", np.zeros((0, 2), object), n_outputs=2, **attributes)


def test_split_at_ascii_white_space_only():
    parts, counts = apply("StringSplit", texts("a\u00a0b\x1cc\td\ve"), n_outputs=2, version=20)
    assert parts.tolist() == [["a\u00a0b\x1cc", "d", "e"]]
    assert counts.tolist() == [3]


SAMPLES = texts(
    *(
        "",
        "a",
        "b",
        "ab",
        "ba",
        "aa",
        "aaa",
        "abab",
        "A",
        "k",
        "K",
        "\u212a",
        "\u017f",
        "s",
        "é",
        "É",
    ),
    *("\n", "a\nb", "a\n", "_", " ", "0", "a b", "a-b", "]", "b]", "[", "\\", "{2}", "a{,2}"),
    *(
        "\t",
        "\v",
        "x.y",
        "ß",
        "ẞ",
        "Σ",
        "ς",
        "\u03c3",
        "a*",
        "^",
        "$",
        "日",
        "\0",
        "i",
        "İ",
        "\u0131",
    ),
)
PATTERN_LINES = r"""
a* (a|b)* (?i)k (?i)[a-z]+ (?i)\w (?i)\W (?i)[^k] (?i)\x{3c3} (?i)ß . (?s). (?s).* a$ (?m)a$\n^b a\b.*
\ba\b \B \b a{2} a{2,} a{0,2}b? a{,2} a{2 x{0} () a| |a (?P<n>a) (?<n>a) (?i) a*(?i)* (?i-i)a
(?ims)a (?U)a+ [] ]+ []a] [^]] [a-] [-a] [a-b-c] [\d] [\d-a] [[:alpha:]]+ [[:^alpha:]] [[:alpha]
[:alpha:] \d \D \s \S \w \W \pL \p{Lu} \p{^Lu} \P{Lu} \P{^L} \p{Any} \pN \Q*a\E a\Q*\E \Qa \Q\E
\A\z \0 \01 \141 \x61 \x{61} \x{0000000061} \a \f \v \t \n \r \_ \- \] [\]] [\w-] ^* (?:^)* (a*)*
(a*)+ (a|b|)* ((a*)*)* (?i:k)k (?i)(?-i:k) (?i)\p{Lu} (?i)[[:upper:]] ^^ $$ a?? a*? a{1}? a{01} [[a]]
[a&&b] [^\n] \pZ (?m)^$ (?m)(^a$\n?)+ (?i)i (?i)İ (?i)\x{131} \S+\s\S+ {,2} {2 { a{ } x{2,3}{ (|a)+ [^^]
a** a*+ a{2}{3} a{1001} a{2,1} {2} (?P<>a) (?i-)a (?x)a ) ( (a [ [] [b-a] [a-\d] [[:foo:]] \p{Foo}
\Z \1 \8 \18 \x{110000} \x6 \y \é [\b] + * ? a|* (*) a++ a{1}?? a\ (?=a) (?!a) (?<=a) (?>a) (?P=n)
\G \K [\Qa\E] \p{} \p{ \p [a--] \E
"""
PATTERNS = PATTERN_LINES.split()


def by_re2(pattern):
    try:
        return by_onnxruntime("RegexFullMatch", SAMPLES, version=20, pattern=pattern)[0].tolist()
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common base
        assert "Regex" in str(error)
        return None


@pytest.mark.parametrize("pattern", PATTERNS)
def test_regex_is_what_re2_says(pattern):
    expected = by_re2(pattern)
    if expected is None:
        with pytest.raises((ModelError, UnsupportedError)):
            apply("RegexFullMatch", SAMPLES, version=20, pattern=pattern)
    else:
        found = apply("RegexFullMatch", SAMPLES, version=20, pattern=pattern)[0]
        assert found.tolist() == expected


def grown(r, depth):
    atoms = ["a", "b", ".", "[ab]", "[^a]", r"\w", r"\b", "^", "$", "(?i:k)", "(?m:^)", r"\B", "()"]
    kind = r.random() if depth else 0
    if kind < 0.3:
        return r.choice(atoms)
    if kind < 0.55:
        return grown(r, depth - 1) + grown(r, depth - 1)
    if kind < 0.75:
        return f"({grown(r, depth - 1)}|{grown(r, depth - 1)})"
    times = r.choice(["*", "+", "?", "{2}", "{1,3}", "{2,}", "{0,1}", "*?"])
    return f"(?:{grown(r, depth - 1)}){times}"


def test_random_patterns_are_what_re2_says():
    r = random.Random(7)
    for _ in range(100):
        pattern = grown(r, 4)
        found = apply("RegexFullMatch", SAMPLES, version=20, pattern=pattern)[0]
        assert found.tolist() == by_re2(pattern), pattern


@pytest.mark.parametrize(
    "pattern,text",
    [
        ("(a*)*b", "a" * 20_000),
        ("(a|aa)+$", "a" * 20_000 + "b"),
        ("(x+x+)+y", "x" * 20_000),
        ("(a|b)*a(a|b){300}", "ab" * 500),
        ("(?:" * 3000 + "a" + ")*" * 3000, "aab"),
    ],
)
def test_hostile_patterns_take_linear_time(pattern, text):
    start = time.perf_counter()
    assert apply("RegexFullMatch", texts(text), version=20, pattern=pattern)[0].tolist() == [False]
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "pattern", ["((((a{100}){100}){100}){100})", "|" * 20_000, "a" * (1 << 20), r"(?i)\pL" * 11_000]
)
def test_huge_patterns_are_refused(pattern):
    with pytest.raises(LimitError, match="parts"):
        apply("RegexFullMatch", texts("a"), version=20, pattern=pattern)


@pytest.mark.parametrize("pattern", [r"\p{Greek}", r"\C"])
def test_what_is_not_supported_is_refused(pattern):
    with pytest.raises(UnsupportedError):
        apply("RegexFullMatch", texts("a"), version=20, pattern=pattern)


@pytest.mark.parametrize("action", ["NONE", "LOWER", "UPPER"])
@pytest.mark.parametrize("sensitive", [0, 1])
@pytest.mark.parametrize("shape", [(4,), (1, 4)])
@pytest.mark.parametrize("stopwords", [["the", "b"], ["The", "the", "B", "x"], []])
def test_normalizer(action, sensitive, shape, stopwords):
    x = texts("The", "the", "B", "x", shape=shape)
    options = {"case_change_action": action, "is_case_sensitive": sensitive, "locale": "C"}
    compare("StringNormalizer", x, version=10, stopwords=stopwords or None, **options)


def test_normalizer_knows_unicode_and_turkish():
    def upper(locale, action="UPPER", x="Straße i"):
        options = {"case_change_action": action, "locale": locale}
        return apply("StringNormalizer", texts(x), version=10, **options)[0].tolist()

    assert upper("de_DE") == ["STRASSE I"]
    assert upper("tr_TR", x="\u0131 i") == ["I İ"]
    assert upper("tr_TR", "LOWER", "I İ") == ["\u0131 i"]


def test_normalizer_of_nothing_gives_one_empty_string():
    assert apply("StringNormalizer", np.zeros((1, 0), object), version=10)[0].tolist() == [[""]]
    with pytest.raises(ExecutionError, match=r"\[1, C\]"):
        apply("StringNormalizer", np.zeros((2, 1), object), version=10)
    with pytest.raises(InferenceError):
        inferred("StringNormalizer", Fact.constant(texts("a", "b", shape=(2, 1))), version=10)


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("lengths", [(1, 1), (1, 2), (2, 3), (1, 3)])
@pytest.mark.parametrize("skips", [0, 1, 5, 1 << 40])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, object])
def test_tfidf(mode, lengths, skips, dtype):
    attributes = {
        "mode": mode,
        "min_gram_length": lengths[0],
        "max_gram_length": lengths[1],
        "max_skip_count": skips,
        "ngram_counts": [0, 3, 7],
        "ngram_indexes": [5, 0, 1, 2, 3, 4],
        "weights": [1.5, 2.0, 3.0, 0.5, 1.0, 4.0],
    }
    pool = [1, 2, 3, 1, 2, 2, 2, 1, 2, 3]
    x = np.array([[1, 2, 1, 2, 2, 3], [9, 1, 2, 3, -1, 2], [7, 7, 7, 7, 7, 7]], np.int64)
    if dtype is object:
        x, attributes["pool_strings"] = x.astype(str).astype(object), [str(each) for each in pool]
    else:
        x, attributes["pool_int64s"] = x.astype(dtype), pool
    for rows in (x, x[0]):
        ours = apply("TfIdfVectorizer", rows, version=9, **attributes)
        if skips < 100:
            close(ours, by_onnxruntime("TfIdfVectorizer", rows, version=9, **attributes), terms=20)
        agrees_with_inference(
            "TfIdfVectorizer", rows, outputs=ours, version=9, n_outputs=1, **attributes
        )


def test_tfidf_weighs_each_gram_where_grams_share_a_place():
    attributes = {
        "mode": "TFIDF",
        "min_gram_length": 1,
        "max_gram_length": 2,
        "max_skip_count": 1,
        "ngram_counts": [0, 2],
        "ngram_indexes": [1, 1, 0],
        "pool_int64s": [1, 2, 1, 2],
        "weights": [10.0, 100.0, 1000.0],
    }
    x = np.array([1, 2, 1, 2, 3], np.int64)
    ours = apply("TfIdfVectorizer", x, version=9, **attributes)
    close(ours, by_onnxruntime("TfIdfVectorizer", x, version=9, **attributes), terms=10)


@pytest.mark.parametrize(
    "changes",
    [
        {"ngram_indexes": [0, 1, -1]},
        {"ngram_indexes": [0, 1]},
        {"ngram_indexes": []},
        {"ngram_counts": [0, 3]},
        {"ngram_counts": [0, 9]},
        {"ngram_counts": [2, 0]},
        {"pool_strings": ["a"]},
        {"mode": "tf"},
        {"weights": [1.0]},
        {"ngram_indexes": [0, 1, 1 << 60]},
    ],
)
def test_tfidf_refuses_attributes_that_do_not_fit(changes):
    attributes = {
        "mode": "TF",
        "min_gram_length": 1,
        "max_gram_length": 1 << 60,
        "max_skip_count": 0,
        "ngram_counts": [0, 2],
        "ngram_indexes": [0, 1, 2],
        "pool_int64s": [1, 2, 1, 2],
    }
    x = np.array([1, 2], np.int64)
    assert apply("TfIdfVectorizer", x, version=9, **attributes)[0].tolist() == [1, 1, 1]
    with pytest.raises((ModelError, LimitError)):
        apply("TfIdfVectorizer", x, version=9, **(attributes | changes))
