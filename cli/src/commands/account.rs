//! `phala account` and `phala transfer`.

use super::money::{balance_in_cluster, reader};
use crate::{
    args::{Network, Signer},
    network::{connect, named_account},
    output::{Output, Tone},
};
use anyhow::Result;
use phala_client::{Account, Call};
use phala_primitives::{Balance, ClusterId, Code, Coded, DECIMALS};
use serde_json::json;

/// Amount in PHA as people write it, with no more digits than needed.
pub(crate) fn format_pha(amount: Balance) -> String {
    let unit = 10u128.pow(u32::from(DECIMALS));
    let (whole, fraction) = (amount / unit, amount % unit);
    let mut digits = whole.to_string();
    for i in (1..digits.len()).rev().filter(|i| (digits.len() - i) % 3 == 0).collect::<Vec<_>>() {
        digits.insert(i, ',');
    }
    let fraction = format!("{fraction:012}");
    match fraction.trim_end_matches('0') {
        "" => format!("{digits} PHA"),
        rest => format!("{digits}.{rest} PHA"),
    }
}

/// Reads an amount in PHA, such as `12.5`.
pub(crate) fn parse_pha(text: &str) -> Result<Balance, Coded> {
    let wrong = |why: &str| Coded::new(Code::BadArgument, format!("`{text}` is no amount of PHA: {why}"));
    let plain = text.replace([',', '_'], "");
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    if fraction.len() > usize::from(DECIMALS) {
        return Err(wrong("at most 12 decimals"));
    }
    let digits = format!("{whole}{fraction:0<12}");
    if whole.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
        return Err(wrong("digits and one point"));
    }
    digits.parse().map_err(|_| wrong("too large"))
}

/// Shows an account.
pub(crate) async fn show(
    account: Option<&str>,
    cluster: ClusterId,
    signer: &Signer,
    network: &Network,
    output: Output,
) -> Result<()> {
    let Some(account) = account else {
        return Err(Coded::new(Code::BadArgument, "name an account, or --new").into());
    };
    let id = named_account(account)?;
    let chain = connect(network).await?;
    let info = chain.account(&id).await?;
    let owned = balance_in_cluster(&chain, &reader(account, signer)?, id, cluster).await;
    let in_cluster = match &owned {
        Ok(owned) => format_pha(*owned),
        Err(error) if error.known() == Some(Code::BalanceDenied) => "for the account itself to see: --suri".into(),
        Err(error) => format!("unknown: {error}"),
    };
    let json = json!({
        "address": id.to_string(), "generic_address": id.to_ss58(42), "public_key": format!("0x{}", hex::encode(id.0)),
        "free": info.free.to_string(), "reserved": info.reserved.to_string(), "nonce": info.nonce,
        "cluster": cluster, "in_cluster": owned.ok().map(|owned| owned.to_string()),
    });
    let text = format!(
        "address   {id}\ngeneric   {}\nfree      {}\nreserved  {}\ncluster   {in_cluster}\nnonce     {}",
        id.to_ss58(42),
        format_pha(info.free),
        format_pha(info.reserved),
        info.nonce
    );
    output.data(&json, text);
    Ok(())
}

/// Makes an account.
pub(crate) fn create(output: Output) -> Result<()> {
    let (account, words) = Account::generate()?;
    let json = json!({ "address": account.id().to_string(), "words": words.as_str() });
    output.data(&json, format!("address  {}\nwords    {}", account.id(), words.as_str()));
    output.warn("Whoever has the words has the account. Write them down; they are kept nowhere.");
    Ok(())
}

/// Sends PHA.
pub(crate) async fn transfer(to: &str, amount: &str, signer: &Signer, network: &Network, output: Output) -> Result<()> {
    let (to, value) = (named_account(to)?, parse_pha(amount)?);
    let account = Account::from_suri(&signer.suri)?;
    let chain = connect(network).await?;
    let bar = output.spinner("waiting until the transfer is final");
    let included = chain.submit(&account, &Call::transfer_keep_alive(&to, value)).await;
    bar.finish_and_clear();
    let included = included?;
    let json = json!({
        "from": account.id().to_string(), "to": to.to_string(), "amount": value.to_string(),
        "block": included.number, "block_hash": included.block.to_string(), "extrinsic": included.hash.to_string(),
    });
    output.data(&json, format!("{} sent to {to}, final in block {}", format_pha(value), included.number));
    output.say(output.paint(Tone::Dim, &format!("extrinsic {}", included.hash)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written() {
        assert_eq!(parse_pha("12.5").unwrap(), 12_500_000_000_000);
        assert_eq!(parse_pha("1,000").unwrap(), 1_000_000_000_000_000);
        assert_eq!(parse_pha("0.000000000001").unwrap(), 1);
        assert_eq!(format_pha(1_234_567_890_000_000_000), "1,234,567.89 PHA");
        assert_eq!(format_pha(999_000_000_000_000), "999 PHA");
        assert_eq!(format_pha(1), "0.000000000001 PHA");
        for wrong in ["", ".5", "1.2.3", "-1", "1e3", "0.0000000000001", "99999999999999999999999999999999999"] {
            assert!(parse_pha(wrong).is_err(), "{wrong}");
        }
    }
}
