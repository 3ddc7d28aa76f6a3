use deepmarket_api::{Statement, StatementCause};
use deepmarket_types::Credits;
use deepmarket_wallet::accounts;

use super::Names;
use crate::{
    error::{Failure, Outcome},
    output::{self, aligned, credits},
    settings::Settings,
};

pub async fn run(settings: &Settings, who: Option<&str>) -> Outcome {
    let id = settings.accounts.resolve(who, settings.account_name())?;
    let client = settings.client()?;
    accounts::fetch(&client, id).await?;
    let statement = client.statement(id).await?;
    let names = Names::fetch(&client, id).await?;
    settings.output.show(&statement, || describe(&statement, &names))?;
    // Added up here again: nobody's word is taken for it.
    if !adds_up(&statement) || !statement.balanced {
        return Err(Failure::bug("the statement's lines don't add up to the balance"));
    }
    settings.output.next("deepmarket account history, entry by entry with their transactions");
    Ok(())
}

/// Is `incoming − outgoing` over all lines the balance?
fn adds_up(statement: &Statement) -> bool {
    let sum = |amounts: &mut dyn Iterator<Item = Credits>| amounts.map(|amount| u128::from(amount.micro())).sum::<u128>();
    let incoming = sum(&mut statement.lines.iter().map(|line| line.incoming));
    let outgoing = sum(&mut statement.lines.iter().map(|line| line.outgoing));
    let balance = sum(&mut [statement.granted, statement.earned].into_iter());
    incoming.checked_sub(outgoing) == Some(balance)
}

fn describe(statement: &Statement, names: &Names) -> String {
    let amount =
        |amount: Credits, sign: char| if amount.is_zero() { String::new() } else { format!("{sign}{}", aligned(amount)) };
    let lines = statement.lines.iter().map(|line| {
        let cause = match line.cause {
            StatementCause::StartingCredits => "starting credits".to_owned(),
            StatementCause::Account(who) => format!("transfers with {who}"),
            StatementCause::Job(job) => format!("{}: its escrow and what came back", names.job(job)),
            StatementCause::Machine(machine) => format!("work of {}", names.machine(machine)),
            StatementCause::Audits => "computing others' rounds again, and parts of what false work lost".to_owned(),
        };
        vec![cause, amount(line.incoming, '+'), amount(line.outgoing, '-'), line.entries.to_string()]
    });
    let balance: Credits = [statement.granted, statement.earned].into_iter().sum();
    let total = vec!["balance".to_owned(), aligned(balance), String::new(), String::new()];
    format!(
        "{}\nat block {}: {} granted and {} earned; the lines {}",
        output::table(&["why", "came", "went", "entries"], &[1, 2, 3], lines.chain([total])),
        statement.height,
        credits(statement.granted),
        credits(statement.earned),
        if adds_up(statement) { "add up to it exactly" } else { "DON'T ADD UP to it" }
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use deepmarket_api::StatementLine;
    use deepmarket_types::{Height, JobId};

    use super::*;

    #[test]
    fn the_lines_add_up_to_the_balance_or_it_is_said() {
        let line = |cause, incoming, outgoing| StatementLine {
            cause,
            incoming: Credits::from_micro(incoming),
            outgoing: Credits::from_micro(outgoing),
            entries: 2,
        };
        let mut statement = Statement {
            height: Height(9),
            granted: Credits::from_micro(40_000_000),
            earned: Credits::from_micro(1),
            lines: vec![
                line(StatementCause::StartingCredits, 50_000_000, 0),
                line(StatementCause::Job(JobId(1)), 10_000_001, 20_000_000),
            ],
            balanced: true,
        };
        let names = Names { machines: BTreeMap::new(), jobs: BTreeMap::from([(JobId(1), "mnist".to_owned())]) };
        let text = describe(&statement, &names);
        for part in ["job-1 'mnist'", "+50.000000", "-20.000000", "40.000001", "add up to it exactly", "block 9"] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
        statement.earned = Credits::from_micro(2);
        assert!(!adds_up(&statement) && describe(&statement, &names).contains("DON'T"));
        statement.lines[0].incoming = Credits::ZERO;
        assert!(!adds_up(&statement), "more went than came");
    }
}
