//! Keys: making, restoring, importing, unlocking, showing.

use std::path::Path;

use deepmarket_types::{AccountId, PublicKey, SecretKey};
use deepmarket_wallet::{
    accounts, keys,
    vault::{self, Vault},
};
use tokio::task::spawn_blocking;

use crate::{
    error::{Answer, BAD_INPUT, bug, io},
    markets::Markets,
    secret::Secret,
    state::{App, Pluto, Unlocked},
    view::{CommandError, Session, WordAnswer},
};

/// The identity has an account already, or it can't be one; or nobody here gives vouchers.
const REFUSED_IDENTITY: [u16; 3] = [2014, 5031, 5030];

#[tauri::command]
pub async fn new_words(app: Pluto<'_>) -> Answer<Vec<String>> {
    let key = SecretKey::generate();
    let words = vault::words(&key).to_vec();
    app.set_fresh(Some(key));
    Ok(words)
}

#[tauri::command]
pub async fn create_account(
    app: Pluto<'_>,
    name: String,
    identity: String,
    password: Secret,
    answers: Vec<WordAnswer>,
) -> Answer<Session> {
    let key = app.fresh().ok_or_else(|| CommandError::new(BAD_INPUT, "there is no new key", "begin again with new words"))?;
    check_answers(&vault::words(&key), &answers)?;
    let identity = check_identity(&identity)?.to_owned();
    let path = app.home.account(&name)?;
    let (market, client) = app.checked().await?;
    // The key is on disk before the chain hears of it: a second try, after a lost connection, finds it again, and may give
    // another name or password.
    let earlier = twin(&app, key.public())?;
    match &earlier {
        Some(earlier) if *earlier == name => seal(&name, &key, password).await?.replace(&path)?,
        _ => {
            check_free(&name, &path)?;
            seal(&name, &key, password).await?.write_new(&path)?;
        }
    }
    if let Some(earlier) = earlier.as_ref().filter(|earlier| **earlier != name) {
        let path = app.home.account(earlier)?;
        std::fs::remove_file(&path).map_err(io(path.display()))?;
    }
    if let Err(error) = accounts::open(&client, &key, &identity).await {
        // Nothing else was ever sent with this key: nobody needs the file. The key waits for another identity.
        if earlier.is_none() && REFUSED_IDENTITY.contains(&error.code()) {
            std::fs::remove_file(&path).map_err(io(path.display()))?;
        }
        return Err(error.into());
    }
    let session = app.enter(Unlocked::new(name, key, true));
    app.opened(&session, &market.chain)?;
    app.set_fresh(None);
    Ok(session.view())
}

#[tauri::command]
pub async fn restore_account(app: Pluto<'_>, name: String, words: Secret, password: Secret) -> Answer<Session> {
    let key = vault::key_of_words(&words)?;
    add(&app, name, key, password).await
}

#[tauri::command]
pub async fn import_key(app: Pluto<'_>, path: String, file_password: Secret, name: String, password: Secret) -> Answer<Session> {
    let file = Path::new(&path);
    if !file.is_file() {
        return Err(CommandError::new(BAD_INPUT, format!("{path} is no file"), "choose a key file"));
    }
    let key = match Vault::read(file) {
        Ok(vault) => open(vault, file_password).await?,
        // The command line's key files aren't encrypted; what is neither is told by the reader of the wallet's own.
        Err(error) => keys::read_brought(file).map_err(|_| error)?,
    };
    add(&app, name, key, password).await
}

#[tauri::command]
pub async fn open_account(app: Pluto<'_>, identity: String) -> Answer<Session> {
    let identity = check_identity(&identity)?;
    let session = app.session()?;
    let (market, client) = app.checked().await?;
    accounts::open(&client, &session.key, identity).await?;
    app.opened(&session, &market.chain)?;
    Ok(session.view())
}

#[tauri::command]
pub async fn unlock(app: Pluto<'_>, name: String, password: Secret) -> Answer<Session> {
    let path = app.home.account(&name)?;
    if !path.exists() {
        return Err(CommandError::new(
            BAD_INPUT,
            format!("there is no account '{name}' on this computer"),
            "choose one of the list",
        ));
    }
    let key = open(Vault::read(&path)?, password).await?;
    enter(&app, name, key).await
}

#[tauri::command]
pub async fn lock(app: Pluto<'_>) -> Answer {
    app.lock();
    Ok(())
}

#[tauri::command]
pub async fn change_password(app: Pluto<'_>, old_password: Secret, new_password: Secret) -> Answer {
    let session = app.session()?;
    let path = app.home.account(&session.name)?;
    let key = open(Vault::read(&path)?, old_password).await?;
    Ok(seal(&session.name, &key, new_password).await?.replace(&path)?)
}

#[tauri::command]
pub async fn show_words(app: Pluto<'_>, password: Secret) -> Answer<Vec<String>> {
    let session = app.session()?;
    let key = open(Vault::read(&app.home.account(&session.name)?)?, password).await?;
    Ok(vault::words(&key).to_vec())
}

#[tauri::command]
pub async fn export_key(app: Pluto<'_>, path: String) -> Answer {
    let session = app.session()?;
    let own = app.home.account(&session.name)?;
    let bytes = std::fs::read(&own).map_err(io(own.display()))?;
    if !Path::new(&path).parent().is_some_and(Path::is_dir) {
        return Err(CommandError::new(BAD_INPUT, format!("there is no folder for {path}"), "choose a folder that is there"));
    }
    Ok(deepmarket_wallet::files::write_private(Path::new(&path), &bytes)?)
}

/// Keeps a key that was brought along, and unlocks it.
async fn add(app: &App, name: String, key: SecretKey, password: Secret) -> Answer<Session> {
    let path = app.home.account(&name)?;
    if let Some(twin) = twin(app, key.public())? {
        let message = format!("this account is on this computer already, as '{twin}'");
        return Err(CommandError::new(BAD_INPUT, message, "unlock that one with its password"));
    }
    check_free(&name, &path)?;
    seal(&name, &key, password).await?.write_new(&path)?;
    enter(app, name, key).await
}

/// One name is one key: a file is never written over by another key's.
fn check_free(name: &str, path: &Path) -> Answer {
    match path.exists() {
        true => {
            let message = format!("there is an account '{name}' on this computer already");
            Err(CommandError::new(BAD_INPUT, message, "give this one another name"))
        }
        false => Ok(()),
    }
}

/// The name under which a key is on this computer already.
fn twin(app: &App, key: PublicKey) -> Answer<Option<String>> {
    let is_of = |name: &String| {
        let vault = app.home.account(name).ok().and_then(|path| Vault::read(&path).ok());
        vault.is_some_and(|vault| vault.public() == key)
    };
    Ok(app.home.account_names()?.into_iter().find(is_of))
}

/// Unlocks; asks the market whether the account is open, or remembers it where no gateway answers.
async fn enter(app: &App, name: String, key: SecretKey) -> Answer<Session> {
    let id = AccountId::from_key(&key.public());
    let Ok(market) = app.market() else {
        return Ok(app.enter(Unlocked::new(name, key, false)).view());
    };
    let remembered = Markets::read(&app.home.markets()).known(&market.chain).open.contains(&id);
    let open = match market.checked().await {
        Ok(client) => client.account(id).await.map(|account| account.is_some()).unwrap_or(remembered),
        Err(error) if !error.retryable => return Err(error),
        Err(error) if !remembered => return Err(error),
        Err(_) => true,
    };
    let session = app.enter(Unlocked::new(name, key, open));
    if open {
        app.opened(&session, &market.chain)?;
    }
    Ok(session.view())
}

/// Deriving the key from the password takes a moment: not on a thread that others wait for.
async fn seal(name: &str, key: &SecretKey, password: Secret) -> Answer<Vault> {
    vault::check_password(&password)?;
    let (name, key) = (name.to_owned(), key.clone());
    Ok(spawn_blocking(move || Vault::seal(&name, &key, &password)).await.map_err(bug)??)
}

async fn open(vault: Vault, password: Secret) -> Answer<SecretKey> {
    Ok(spawn_blocking(move || vault.open(&password)).await.map_err(bug)??)
}

/// Were the words written down?
fn check_answers(words: &[String], answers: &[WordAnswer]) -> Answer {
    let wrong = answers.iter().find(|answer| {
        let word = words.get(answer.place as usize);
        word.is_none_or(|word| *word != answer.word.trim().to_lowercase())
    });
    match wrong {
        Some(answer) => {
            let message = format!("word {} is another one", u64::from(answer.place) + 1);
            Err(CommandError::new(7003, message, "compare it with what you wrote down"))
        }
        None if answers.is_empty() => Err(bug("no word was asked back")),
        None => Ok(()),
    }
}

fn check_identity(identity: &str) -> Answer<&str> {
    match identity.trim() {
        "" => Err(CommandError::new(
            BAD_INPUT,
            "the identity is missing",
            "give the one that the institution knows, like a mail address",
        )),
        identity => Ok(identity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_asked_back_are_compared_forgivingly() {
        let words = vec!["apple".to_owned(), "banana".to_owned()];
        let answer = |place, word: &str| vec![WordAnswer { place, word: word.into() }];
        assert!(check_answers(&words, &answer(1, " Banana ")).is_ok());
        let wrong = check_answers(&words, &answer(1, "apple")).unwrap_err();
        assert_eq!((wrong.code, wrong.message.as_str()), (7003, "word 2 is another one"));
        assert!(check_answers(&words, &answer(2, "cherry")).is_err());
        assert!(check_answers(&words, &[]).is_err(), "something must be asked back");
    }
}
