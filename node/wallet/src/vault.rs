//! PLUTO's key file: an account's key, encrypted with a password; and the 24 words that stand for a key on paper.
//!
//! ```text
//! password ─▶ Argon2id (RFC 9106) ─▶ key ─▶ XChaCha20-Poly1305 ─▶ sealed: the 32-byte seed
//!                                              ▲ associated data: all the rest of the file
//! seed ◀─▶ 24 words: the seed is their entropy (BIP 39), so that every key has words
//! ```
//!
//! `check` finds damage without a password. It protects from nobody: what was changed on purpose doesn't open.

use std::{fs, path::Path};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use bip39::{Language, Mnemonic};
use chacha20poly1305::{
    Tag, XChaCha20Poly1305, XNonce,
    aead::{AeadInPlace as _, KeyInit as _},
};
use deepmarket_types::{AccountId, Hash, PublicKey, SecretKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    failure::{Failure, Outcome, io},
    files,
};

/// The password doesn't open the file.
const WRONG_PASSWORD: u16 = 7001;
/// The file isn't what was written.
const DAMAGED: u16 = 7002;
/// The words stand for no key.
const WRONG_WORDS: u16 = 7003;
/// The password is too short.
const WEAK_PASSWORD: u16 = 7004;

const ABOUT: &str = "DeepMarket account key, encrypted with a password. Without that, only its 24 recovery words bring it back.";
const VERSION: u32 = 1;
const ALGORITHM: &str = "argon2id";
const CIPHER: &str = "xchacha20poly1305";
/// What the cipher adds to what it encrypts.
const TAG_BYTES: usize = 16;
/// Of the second recommended option of RFC 9106, section 4; one lane, because nothing here runs in parallel.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// The most that a file may ask for: 512 MiB and some seconds.
const MAX_MEMORY_KIB: u32 = 512 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 8;
/// A file has less than 1 KiB.
const MAX_BYTES: u64 = 16 * 1024;
/// The fewest characters of a password.
const MIN_PASSWORD: usize = 8;
const WORDS: usize = 24;

/// How the password becomes a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    algorithm: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    #[serde(with = "hex::serde")]
    salt: [u8; 16],
}

/// An encrypted key file, as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// What the file is, for people who find it.
    about: String,
    version: u32,
    name: String,
    account: AccountId,
    public: PublicKey,
    kdf: Kdf,
    cipher: String,
    #[serde(with = "hex::serde")]
    nonce: [u8; 24],
    #[serde(with = "hex::serde")]
    sealed: Vec<u8>,
    #[serde(with = "hex::serde")]
    check: [u8; 8],
}

impl Vault {
    /// Encrypts a key; `name` is the account's name on this computer. Takes a moment and 64 MiB: not for an async thread.
    pub fn seal(name: &str, key: &SecretKey, password: &str) -> Outcome<Vault> {
        Self::seal_with(name, key, password, MEMORY_KIB, PASSES)
    }

    fn seal_with(name: &str, key: &SecretKey, password: &str, memory_kib: u32, passes: u32) -> Outcome<Vault> {
        check_password(password)?;
        let public = key.public();
        let kdf = Kdf { algorithm: ALGORITHM.into(), memory_kib, passes, lanes: 1, salt: random()? };
        let mut vault = Vault {
            about: ABOUT.into(),
            version: VERSION,
            name: name.into(),
            account: AccountId::from_key(&public),
            public,
            kdf,
            cipher: CIPHER.into(),
            nonce: random()?,
            sealed: Vec::new(),
            check: [0; 8],
        };
        let (cipher, header) = (vault.cipher(password)?, vault.header()?);
        // Encrypted where it lies: no copy of the seed is left behind.
        let mut sealed = key.seed();
        let nonce = XNonce::from(vault.nonce);
        let tag = cipher.encrypt_in_place_detached(&nonce, &header, &mut sealed).map_err(Failure::bug)?;
        vault.sealed = [sealed.as_slice(), tag.as_slice()].concat();
        vault.check = vault.checksum()?;
        Ok(vault)
    }

    /// Reads a key file and checks all that can be checked without its password.
    pub fn read(path: &Path) -> Outcome<Vault> {
        let size = fs::metadata(path).map_err(io(path.display()))?.len();
        if size > MAX_BYTES {
            return Err(damaged(format!("it has {size} bytes")).about(path.display()));
        }
        let text = fs::read(path).map_err(io(path.display()))?;
        Self::from_bytes(&text).map_err(|failure| failure.about(path.display()))
    }

    /// The same, of a file's bytes.
    pub fn from_bytes(text: &[u8]) -> Outcome<Vault> {
        let vault: Vault = serde_json::from_slice(text).map_err(damaged)?;
        let known = (vault.version, vault.kdf.algorithm.as_str(), vault.cipher.as_str());
        if known != (VERSION, ALGORITHM, CIPHER) {
            return Err(damaged(format!("this release doesn't know its version {} ({}, {})", known.0, known.1, known.2)));
        }
        let Kdf { memory_kib, passes, lanes, .. } = vault.kdf;
        // Before any memory is taken for them.
        if memory_kib > MAX_MEMORY_KIB || passes > MAX_PASSES || lanes > MAX_LANES {
            return Err(damaged(format!("it asks for {memory_kib} KiB, {passes} passes and {lanes} lanes, which is too much")));
        }
        if vault.checksum()? != vault.check || vault.to_bytes()? != text.trim_ascii_end() {
            return Err(damaged("it isn't as it was written"));
        }
        if AccountId::from_key(&vault.public) != vault.account {
            return Err(damaged("its key is not its account's"));
        }
        Ok(vault)
    }

    /// Writes a new key file, readable by its owner only; never over an existing one.
    pub fn write_new(&self, path: &Path) -> Outcome {
        files::write_private_new(path, &self.to_bytes()?)
    }

    /// Writes the key file in place of the one that is there: after its password has changed.
    pub fn replace(&self, path: &Path) -> Outcome {
        files::write_private(path, &self.to_bytes()?)
    }

    /// Decrypts the key. Takes a moment and the memory that the file asks for: not for an async thread.
    pub fn open(&self, password: &str) -> Outcome<SecretKey> {
        let (cipher, header) = (self.cipher(password)?, self.header()?);
        let (sealed, tag) = self.sealed.split_last_chunk::<TAG_BYTES>().ok_or_else(|| damaged("it holds no key"))?;
        let mut seed = Zeroizing::new(<[u8; 32]>::try_from(sealed).map_err(|_| damaged("it holds no key"))?);
        let nonce = XNonce::from(self.nonce);
        cipher.decrypt_in_place_detached(&nonce, &header, &mut *seed, &Tag::from(*tag)).map_err(|_| {
            Failure::user("the password is wrong")
                .with_hint(
                    "try again: capitals and the keyboard's language matter; the 24 recovery words bring the account back, too",
                )
                .with_code(WRONG_PASSWORD)
        })?;
        let key = SecretKey::from_seed(*seed);
        match key.public() == self.public {
            true => Ok(key),
            false => Err(damaged("it holds another account's key")),
        }
    }

    /// The account's name on the computer where the file was written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The account.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// The account's public key.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Outcome<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(Failure::bug)
    }

    /// All but what is sealed, in one way only: the associated data.
    fn header(&self) -> Outcome<Vec<u8>> {
        let header = Vault { sealed: Vec::new(), check: [0; 8], ..self.clone() };
        serde_json::to_vec(&header).map_err(Failure::bug)
    }

    fn checksum(&self) -> Outcome<[u8; 8]> {
        let all = serde_json::to_vec(&Vault { check: [0; 8], ..self.clone() }).map_err(Failure::bug)?;
        let mut check = [0; 8];
        check.copy_from_slice(&Hash::of(&all).0[..8]);
        Ok(check)
    }

    /// The cipher with the key that the password gives.
    fn cipher(&self, password: &str) -> Outcome<XChaCha20Poly1305> {
        let Kdf { memory_kib, passes, lanes, salt, .. } = &self.kdf;
        let params = Params::new(*memory_kib, *passes, *lanes, Some(32)).map_err(damaged)?;
        let mut memory = vec![Block::new(); params.block_count()];
        let mut key = Zeroizing::new([0; 32]);
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let outcome = argon.hash_password_into_with_memory(password.as_bytes(), salt, &mut *key, &mut memory);
        memory.zeroize();
        outcome.map_err(damaged)?;
        Ok(XChaCha20Poly1305::new(&(*key).into()))
    }
}

/// Is it a password that a key may be encrypted with?
pub fn check_password(password: &str) -> Outcome {
    if password.chars().count() >= MIN_PASSWORD {
        return Ok(());
    }
    Err(Failure::user(format!("the password has fewer than {MIN_PASSWORD} characters"))
        .with_hint("take a longer one: three or four words are easy to remember")
        .with_code(WEAK_PASSWORD))
}

/// The 24 words of a key (BIP 39, English).
pub fn words(key: &SecretKey) -> Zeroizing<Vec<String>> {
    let seed = Zeroizing::new(key.seed());
    let mnemonic = Mnemonic::from_entropy(seed.as_slice()).expect("32 bytes are the entropy of 24 words");
    Zeroizing::new(mnemonic.words().map(str::to_owned).collect())
}

/// The key of 24 words. Capitals, spaces, commas and numbers before words don't matter.
pub fn key_of_words(text: &str) -> Outcome<SecretKey> {
    let wrong = |message: String, hint: &str| Err(Failure::user(message).with_hint(hint).with_code(WRONG_WORDS));
    let text = Zeroizing::new(text.to_lowercase());
    let typed: Vec<&str> = text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).collect();
    for (place, word) in typed.iter().enumerate() {
        if Language::English.find_word(word).is_none() {
            let message = format!("word {} ('{word}') is not a recovery word", place + 1);
            return wrong(message, "compare it with your copy, letter by letter");
        }
    }
    if typed.len() != WORDS {
        return wrong(format!("these are {} words", typed.len()), "there must be 24 of them, in their order");
    }
    let joined = Zeroizing::new(typed.join(" "));
    let Ok(mnemonic) = Mnemonic::parse_in_normalized(Language::English, &joined) else {
        let hint = "one of them is another word of your copy, or two have changed places";
        return wrong("these words don't belong together".into(), hint);
    };
    let (mut entropy, length) = mnemonic.to_entropy_array();
    let seed = <[u8; 32]>::try_from(&entropy[..length]).map(Zeroizing::new).map_err(Failure::bug);
    entropy.zeroize();
    Ok(SecretKey::from_seed(*seed?))
}

fn damaged(why: impl std::fmt::Display) -> Failure {
    Failure::environment(format!("the key file is damaged or none of PLUTO's: {why}"))
        .with_hint("take a copy of it, or restore the account from its 24 recovery words")
        .with_code(DAMAGED)
}

fn random<const N: usize>() -> Outcome<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Failure::environment(format!("no randomness: {e}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    const PASSWORD: &str = "correct horse";

    fn sealed(key: &SecretKey, password: &str) -> Vault {
        Vault::seal_with("alice", key, password, 8, 1).unwrap()
    }

    fn code<T: std::fmt::Debug>(outcome: Outcome<T>) -> u16 {
        outcome.unwrap_err().code()
    }

    #[test]
    fn a_key_file_opens_with_its_password_only() {
        let (folder, key) = (tempfile::tempdir().unwrap(), SecretKey::generate());
        let path = folder.path().join("accounts/alice.json");
        // With the real parameters.
        let vault = Vault::seal("alice", &key, PASSWORD).unwrap();
        vault.write_new(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&hex::encode(key.seed())) && text.contains("\"memory_kib\": 65536"), "{text}");

        let read = Vault::read(&path).unwrap();
        assert_eq!((read.name(), read.account(), read.public()), ("alice", AccountId::from_key(&key.public()), key.public()));
        assert_eq!(read.open(PASSWORD).unwrap().seed(), key.seed());
        let failure = read.open("correct horsf").unwrap_err();
        assert_eq!((failure.code(), failure.message()), (WRONG_PASSWORD, "the password is wrong"));

        assert!(sealed(&key, PASSWORD).write_new(&path).is_err(), "an existing key is never overwritten");
        sealed(&key, "another horse").replace(&path).unwrap();
        let read = Vault::read(&path).unwrap();
        assert_eq!(code(read.open(PASSWORD)), WRONG_PASSWORD);
        assert_eq!(read.open("another horse").unwrap().seed(), key.seed());
    }

    #[test]
    fn every_byte_matters_and_so_does_the_end() {
        let bytes = sealed(&SecretKey::generate(), PASSWORD).to_bytes().unwrap();
        assert!(Vault::from_bytes(&bytes).is_ok());
        let mut written_on = bytes.clone();
        written_on.push(b'\n');
        assert!(Vault::from_bytes(&written_on).is_ok(), "editors end the last line");
        for place in 0..bytes.len() {
            assert_eq!(code(Vault::from_bytes(&bytes[..place])), DAMAGED, "cut at {place}");
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                assert_eq!(code(Vault::from_bytes(&changed)), DAMAGED, "bit {bit} of byte {place}");
            }
        }
    }

    #[test]
    fn what_is_changed_on_purpose_does_not_open() {
        let key = SecretKey::generate();
        let vault = sealed(&key, PASSWORD);
        let changes: [fn(&mut Vault); 6] = [
            |vault| vault.name = "mallory".into(),
            |vault| vault.about = String::new(),
            |vault| vault.kdf.passes += 1,
            |vault| vault.kdf.salt[0] ^= 1,
            |vault| vault.nonce[0] ^= 1,
            |vault| vault.sealed[0] ^= 1,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut changed = vault.clone();
            change(&mut changed);
            changed.check = changed.checksum().unwrap();
            let read = Vault::from_bytes(&changed.to_bytes().unwrap()).unwrap();
            assert_eq!(code(read.open(PASSWORD)), WRONG_PASSWORD, "change {number}");
        }
        // Another account's face on it.
        let other = SecretKey::generate().public();
        let mut changed = Vault { public: other, ..vault.clone() };
        changed.check = changed.checksum().unwrap();
        assert_eq!(code(Vault::from_bytes(&changed.to_bytes().unwrap())), DAMAGED);
    }

    #[test]
    fn a_file_can_not_ask_for_all_the_memory() {
        let vault = sealed(&SecretKey::generate(), PASSWORD);
        let greedy: [fn(&mut Kdf); 4] = [
            |kdf| kdf.memory_kib = u32::MAX,
            |kdf| kdf.passes = 1000,
            |kdf| kdf.lanes = 1000,
            |kdf| kdf.algorithm = "md5".into(),
        ];
        for change in greedy {
            let mut changed = vault.clone();
            change(&mut changed.kdf);
            changed.check = changed.checksum().unwrap();
            assert_eq!(code(Vault::from_bytes(&changed.to_bytes().unwrap())), DAMAGED);
        }
        let mut nothing = vault;
        nothing.kdf.passes = 0;
        assert_eq!(code(nothing.open(PASSWORD)), DAMAGED);
    }

    #[test]
    fn a_password_has_eight_characters_of_any_alphabet() {
        for short in ["", "seven77", "пароль!"] {
            assert_eq!(code(check_password(short)), WEAK_PASSWORD, "{short}");
            assert_eq!(code(Vault::seal_with("a", &SecretKey::generate(), short, 8, 1)), WEAK_PASSWORD);
        }
        assert!(check_password("пароль!!").is_ok() && check_password("        ").is_ok());
    }

    #[test]
    fn words_are_those_of_the_standard() {
        // Test vectors of BIP 39: entropy of zeros, and of ones.
        let all = |seed: u8| words(&SecretKey::from_seed([seed; 32])).join(" ");
        assert_eq!(all(0), ["abandon"; 23].join(" ") + " art");
        assert_eq!(all(0xff), ["zoo"; 23].join(" ") + " vote");
    }

    #[test]
    fn words_are_read_as_people_write_them_and_refused_with_what_is_wrong() {
        let key = SecretKey::from_seed([0x7f; 32]);
        let shown = words(&key);
        let numbered: Vec<String> = shown.iter().enumerate().map(|(at, word)| format!("{}. {word}", at + 1)).collect();
        for typed in [shown.join(" "), shown.join("\n  ").to_uppercase(), shown.join(", "), numbered.join("\n")] {
            assert_eq!(key_of_words(&typed).unwrap().seed(), key.seed(), "{typed}");
        }
        let with = |place: usize, word: &str| {
            let mut words = shown.to_vec();
            words[place] = word.into();
            words.join(" ")
        };
        let swapped = with(23, if shown[23] == "zoo" { "abandon" } else { "zoo" });
        for (typed, says) in [
            (with(6, "legall"), "word 7 ('legall')"),
            (shown[..23].join(" "), "23 words"),
            (shown.join(" ") + " zoo", "25 words"),
            (String::new(), "0 words"),
            (swapped, "don't belong together"),
        ] {
            let failure = key_of_words(&typed).unwrap_err();
            assert!(failure.code() == WRONG_WORDS && failure.message().contains(says), "{failure}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_key_has_words_and_comes_back_from_them(seed: [u8; 32]) {
            let key = SecretKey::from_seed(seed);
            prop_assert_eq!(words(&key).len(), WORDS);
            prop_assert_eq!(key_of_words(&words(&key).join(" ")).unwrap().seed(), seed);
        }

        #[test]
        fn every_password_opens_what_it_sealed_and_nothing_else(
            seed: [u8; 32], password in "\\PC{8,40}", other in "\\PC{8,40}", name in "\\PC{0,40}",
        ) {
            let vault = Vault::seal_with(&name, &SecretKey::from_seed(seed), &password, 8, 1).unwrap();
            let vault = Vault::from_bytes(&vault.to_bytes().unwrap()).unwrap();
            prop_assert_eq!(vault.open(&password).unwrap().seed(), seed);
            prop_assert_eq!(vault.open(&other).is_ok(), other == password);
        }

        #[test]
        fn no_bytes_and_no_words_break_the_readers(bytes: Vec<u8>, text: String) {
            prop_assert!(Vault::from_bytes(&bytes).is_err());
            prop_assert!(key_of_words(&text).is_err());
        }
    }
}
