//! `tally product`

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::args::ProductCommand;

pub(super) fn run(ctx: &Context, command: &ProductCommand) -> Result<()> {
    let ProductCommand::Add {
        gtin,
        description,
        brand,
    } = command
    else {
        ctx.table(
            &ctx.ask("products", &json!({}))?,
            &["gtin", "description", "brand", "owner", "record"],
            "no products yet: `tally product add` registers one",
        );
        return Ok(());
    };
    let answer = ctx.ask(
        "product_add",
        &json!({"gtin": gtin, "description": description, "brand": brand}),
    )?;
    let next = format!(
        "tally codes issue --gtin {gtin} --lot LOT --count N --out codes.csv{}",
        ctx.config_option()
    );
    ctx.show(&answer, Some(&next));
    Ok(())
}
