use std::path::Path;

use deepmarket_api::VoucherRequest;
use deepmarket_types::AccountId;
use deepmarket_wallet::{accounts, keys};

use super::show;
use crate::{
    error::{Failure, Outcome, io},
    settings::Settings,
};

pub async fn run(settings: &Settings, name: &str, identity: &str, voucher: Option<&Path>) -> Outcome {
    let client = settings.client()?;
    let path = settings.accounts.path(name)?;
    // The key is on disk before the chain hears of it; a second try after a lost connection finds it again.
    let key = keys::read_or_make(&path)?;
    let id = AccountId::from_key(&key.public());
    let known = client.account(id).await?.is_some();
    if known {
        return Err(Failure::user(format!("the account '{name}' is open already: {id}")).with_hint("choose another --name"));
    }
    let voucher = match voucher {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(io(path.display()))?;
            serde_json::from_str(&text).map_err(|e| Failure::user(format!("{} is not a voucher: {e}", path.display())))?
        }
        None => client.voucher(&VoucherRequest { identity: identity.to_owned(), key: key.public() }).await?,
    };
    let account = accounts::open_with(&client, &key, voucher).await?;
    settings.output.show(&account, || format!("account '{name}' is open\n{}", show::describe(&account, None)))?;
    settings.output.next("deepmarket data add <folder> --name <name>, or deepmarket lend start");
    Ok(())
}
