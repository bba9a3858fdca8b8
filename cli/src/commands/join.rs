//! `tally join`

use anyhow::{Result, anyhow};
use tally_node::ceremony;

use super::{Context, genesis};
use crate::args::JoinArgs;
use crate::exit::{Exit, Failure};
use crate::output;

pub(super) fn run(ctx: &Context, args: &JoinArgs) -> Result<()> {
    let (_, dir) = ctx.config()?;
    let files: Vec<_> = args
        .files
        .iter()
        .map(|path| genesis::read(path))
        .collect::<Result<_>>()?;
    let refused = || Failure::new(Exit::Failed, "join", "this node did not join");
    let file = ceremony::merge(files).map_err(|e| anyhow!(e).context(refused()))?;
    let missing = file.missing();
    if !missing.is_empty() {
        let what = format!("the genesis is not signed by {}", missing.join(", "));
        let next = "collect their signed copies and name all of them: `tally join FILE FILE ...`";
        return Err(anyhow!(what).context(refused().next(next)));
    }
    let joined = match args.network {
        Some(network) if args.newcomer => ceremony::join_later(&dir, &file, network),
        network => ceremony::join(&dir, &file, network),
    };
    joined.map_err(|e| {
        let next = "`tally genesis show FILE` shows what it says; ask who drew it up";
        anyhow!(e).context(refused().next(next))
    })?;
    if ctx.common.json {
        output::value(&genesis::summary(&file));
        return Ok(());
    }
    let first = if args.newcomer {
        "hand member-card.toml to a member, who runs: tally change propose admit --card FILE\n      then: "
    } else {
        ""
    };
    output::text(&format!(
        "joined {} ({} network, {} members)\n  network ID  {}\nnext: {first}tally up{}\n",
        output::plain(&file.genesis().name),
        file.genesis().kind.name(),
        file.genesis().members.len(),
        file.network_id(),
        ctx.config_option(),
    ));
    Ok(())
}
