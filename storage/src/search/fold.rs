//! Texts as searches compare them: case, accents and ways of writing the same letter folded.

use std::cmp::Ordering;

use icu_casemap::CaseMapper;
use icu_normalizer::DecomposingNormalizerBorrowed;
use icu_properties::{
    CodePointMapData,
    props::{GeneralCategory, Script},
};

/// Characters by which words are compared. Bounds what one title can put into an index.
const WORD_CHARS_MAX: usize = 32;
/// Bytes by which titles are ordered. Bounds a cursor.
const TITLE_KEY_BYTES_MAX: usize = 256;

/// Folds a text: compatibility forms decomposed (NFKD), case folded, marks and invisible characters
/// left out, and the Latin letters that Unicode does not decompose written as ASCII: `Straße` becomes
/// `strasse`, `Łódź` becomes `lodz`.
pub fn fold(text: &str) -> String {
    match text.is_ascii() {
        true => text.to_ascii_lowercase(),
        false => fold_any(text),
    }
}

fn fold_any(text: &str) -> String {
    let (nfkd, categories) =
        (DecomposingNormalizerBorrowed::new_nfkd(), CodePointMapData::<GeneralCategory>::new());
    let decomposed = nfkd.normalize(text);
    let cased = CaseMapper::new().fold_string(&decomposed);
    let mut folded = String::with_capacity(cased.len());
    // Case folding gives composed letters back for a few.
    for letter in nfkd.normalize(&cased).chars() {
        match (plain_letters(letter), categories.get(letter)) {
            (Some(letters), _) => folded.push_str(letters),
            (
                None,
                GeneralCategory::NonspacingMark
                | GeneralCategory::EnclosingMark
                | GeneralCategory::Format,
            ) => {}
            (None, _) => folded.push(letter),
        }
    }
    folded
}

/// What people type for Latin letters that are no letter with a mark to Unicode.
fn plain_letters(letter: char) -> Option<&'static str> {
    Some(match letter {
        'æ' => "ae",
        'đ' | 'ð' => "d",
        'ħ' => "h",
        'ı' => "i",
        'ĸ' => "k",
        'ł' => "l",
        'ŋ' => "n",
        'ø' => "o",
        'œ' => "oe",
        'ŧ' => "t",
        'þ' => "th",
        _ => return None,
    })
}

/// The words of a search: runs of letters and digits, folded.
pub(super) fn query_words(text: &str) -> Vec<String> {
    runs(&fold(text)).map(|run| beginning(run).to_owned()).collect()
}

/// Gives each word under which a text is found. Where words are not set apart by spaces, as in
/// Chinese or Thai, one begins at each letter, so that a word is found inside a run of letters.
pub(super) fn each_word(text: &str, mut take: impl FnMut(&str)) {
    let folded = fold(text);
    for run in runs(&folded) {
        take(beginning(run));
        if run.is_ascii() {
            continue;
        }
        let mut after_unspaced = false;
        for (at, letter) in run.char_indices() {
            let unspaced = is_unspaced(letter);
            if at > 0 && (unspaced || after_unspaced) {
                take(beginning(&run[at..]));
            }
            after_unspaced = unspaced;
        }
    }
}

fn runs(folded: &str) -> impl Iterator<Item = &str> {
    folded.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty())
}

fn beginning(word: &str) -> &str {
    match word.char_indices().nth(WORD_CHARS_MAX) {
        Some((end, _)) => &word[..end],
        None => word,
    }
}

/// Whether words are written without spaces in this letter's script.
fn is_unspaced(letter: char) -> bool {
    !letter.is_ascii()
        && [
            Script::Han,
            Script::Hiragana,
            Script::Katakana,
            Script::Khmer,
            Script::Lao,
            Script::Myanmar,
            Script::Thai,
        ]
        .contains(&CodePointMapData::<Script>::new().get(letter))
}

/// What a title is ordered by.
pub(super) fn title_key(title: &str) -> String {
    let mut key = fold(title);
    let end = (0..=TITLE_KEY_BYTES_MAX.min(key.len())).rev().find(|end| key.is_char_boundary(*end));
    key.truncate(end.unwrap_or(0));
    key
}

/// Compares a title's key with another key, mostly without making it: the first letters decide, and
/// a page of a million titles compares each of them.
pub(super) fn compare_title(title: &str, key: &str) -> Ordering {
    for (letter, other) in title.bytes().zip(key.bytes()) {
        if !letter.is_ascii() {
            break;
        }
        match letter.to_ascii_lowercase().cmp(&other) {
            Ordering::Equal => {}
            decided => return decided,
        }
    }
    title_key(title).as_str().cmp(key)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn case_accents_and_forms_fold_into_one() {
        for (text, folded) in [
            ("Straße nach Oberhausen", "strasse nach oberhausen"),
            ("STRASSE", "strasse"),
            ("GROẞ", "gross"),
            ("Café", "cafe"),
            ("Cafe\u{301}", "cafe"),
            ("Ångström", "angstrom"),
            ("Łódź", "lodz"),
            ("København", "kobenhavn"),
            ("Ǿ", "o"),
            ("Þingvellir", "thingvellir"),
            ("Æsop, œuvre", "aesop, oeuvre"),
            ("İstanbul ISPARTA ısı", "istanbul isparta isi"),
            ("ﬁnal ﬀ", "final ff"),
            ("Ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
            ("№ 5 ½ ² ™", "no 5 1⁄2 2 tm"),
            ("ΣΊΣΥΦΟΣ", "σισυφοσ"),
            ("Σίσυφος", "σισυφοσ"),
            ("Ёлка", "елка"),
            ("Tiếng Việt", "tieng viet"),
            ("Buch\u{ad}handel", "buchhandel"),
            ("ガラス", "カラス"),
            ("", ""),
        ] {
            assert_eq!(fold(text), folded, "{text:?}");
        }
    }

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        let words = |text| {
            let mut words = Vec::new();
            each_word(text, |word| words.push(word.to_owned()));
            words
        };
        assert_eq!(
            words("O'Reilly: C++ & TCP/IP, 2nd ed."),
            ["o", "reilly", "c", "tcp", "ip", "2nd", "ed"]
        );
        assert_eq!(words("東京大学"), ["東京大学", "京大学", "大学", "学"]);
        assert_eq!(words("第3章x"), ["第3章x", "3章x", "章x", "x"]);
        assert_eq!(words("日本 Kyōto"), ["日本", "本", "kyoto"]);
        assert_eq!(words(" -- "), [""; 0]);
        assert_eq!(words(&"a".repeat(100)), ["a".repeat(32)]);
        assert_eq!(query_words("Ober 大学 ober"), ["ober", "大学", "ober"]);
    }

    #[test]
    fn folding_twice_changes_nothing_and_ascii_has_no_other_rules() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..20_000 {
            let text: String =
                (0..random.random_range(0..12)).map(|_| letter(&mut random)).collect();
            let folded = fold(&text);
            assert_eq!(fold(&folded), folded, "{text:?}");
            let ascii: String = text.chars().filter(char::is_ascii).collect();
            assert_eq!(fold(&ascii), fold_any(&ascii), "{ascii:?}");
        }
    }

    #[test]
    fn titles_compare_as_their_keys_do() {
        let mut random = ChaCha8Rng::seed_from_u64(8);
        for _ in 0..20_000 {
            let mut title = |most: usize| -> String {
                let common = ["", "Straße ", "the art of ", &"long ".repeat(60)];
                let begin = common[random.random_range(0..common.len())].to_owned();
                (0..random.random_range(0..most)).fold(begin, |mut text, _| {
                    text.push(letter(&mut random));
                    text
                })
            };
            let (one, other) = (title(3), title_key(&title(3)));
            assert_eq!(
                compare_title(&one, &other),
                title_key(&one).as_str().cmp(&other),
                "{one:?} and {other:?}"
            );
        }
    }

    fn letter(random: &mut ChaCha8Rng) -> char {
        match random.random_range(0..6) {
            0 => random.random_range('\u{80}'..='\u{24f}'),
            1 => random.random_range('\u{300}'..='\u{3ff}'),
            2 => random.random(),
            _ => random.random_range(' '..='~'),
        }
    }
}
