//! The fixed words of the pages, a set for each language, and what a problem is in words.

use tally_trace::score::{Reason, ReasonKind};

use super::Problem;
use super::lang::Lang;
use super::view::{Tone, Words};

/// A reason for `suspect`, as a part of a sentence.
pub(super) fn reason(lang: Lang, reason: &Reason) -> String {
    let n = reason.count;
    match (lang, reason.kind) {
        (Lang::En, _) => reason.to_string(),
        (Lang::Zh, ReasonKind::Visits) => format!("此码在{n}个不同时段被查验"),
        (Lang::Zh, ReasonKind::Places) => format!("在{n}个相距很远的地点被查验"),
        (Lang::Zh, ReasonKind::Speed) => {
            format!("两次查验的地点相距过远，在相应时间内无法到达（{n}次）")
        }
        (Lang::Zh, ReasonKind::NetworkSpeed) => {
            format!("两次查验所用网络的地点相距过远，在相应时间内无法到达（{n}次）")
        }
        (Lang::Zh, ReasonKind::ClaimAgain) => format!("其验证码在其他时间被再次输入（{n}次）"),
        (Lang::Zh, ReasonKind::ClaimWrong) => {
            format!("曾有人输入属于其他包装的验证码（{n}次）")
        }
        (Lang::Zh, ReasonKind::Early) => format!("上市之前已被查验（{n}次）"),
        (Lang::Zh, ReasonKind::Outside) => format!("在{n}个非发货地区被查验"),
        (Lang::Zh, ReasonKind::AfterSale) => format!("售出之后仍作为库存被扫描（{n}次）"),
        (Lang::Zh, ReasonKind::Recalled) => format!("召回之后仍被查验（{n}次）"),
        (Lang::Zh, ReasonKind::Void) => format!("其标签已作废（被扫描{n}次）"),
        (Lang::Zh, ReasonKind::Guessing) => format!("查验来源还尝试过从未签发的码（{n}次）"),
    }
}

/// Labels and hints of the templates.
#[derive(Debug)]
pub(super) struct Phrases {
    pub(super) skip: &'static str,
    pub(super) title: &'static str,
    pub(super) served: &'static str,
    pub(super) network: &'static str,
    pub(super) test: &'static str,
    pub(super) check_now: &'static str,
    pub(super) report_code: &'static str,
    pub(super) only_button: &'static str,
    pub(super) no_checks: &'static str,
    pub(super) claim_opened: &'static str,
    pub(super) claim_label: &'static str,
    pub(super) claim_hint: &'static str,
    pub(super) claim_mistyped: &'static str,
    pub(super) claim_check: &'static str,
    pub(super) product: &'static str,
    pub(super) no_product: &'static str,
    pub(super) serial: &'static str,
    pub(super) first_checked: &'static str,
    pub(super) checks: &'static str,
    pub(super) good_until: &'static str,
    pub(super) help: &'static str,
    pub(super) help_keep: &'static str,
    pub(super) help_tell: &'static str,
    pub(super) help_contact: &'static str,
    pub(super) about: &'static str,
    pub(super) checked: &'static str,
    pub(super) scan_id: &'static str,
    pub(super) anchored: &'static str,
    pub(super) anchor: &'static str,
    pub(super) anchor_follows: &'static str,
    pub(super) receipt: &'static str,
    pub(super) proof: &'static str,
    pub(super) code_proof: &'static str,
    pub(super) code_proof_file: &'static str,
    pub(super) later: &'static str,
    pub(super) page_of_code: &'static str,
    pub(super) lead: &'static str,
    pub(super) type_label: &'static str,
    pub(super) type_hint: &'static str,
    pub(super) type_button: &'static str,
    pub(super) type_by_hand: &'static str,
    pub(super) how: &'static str,
    pub(super) how_text: &'static str,
    pub(super) privacy: &'static str,
    pub(super) for_makers: &'static str,
    pub(super) pages: &'static str,
    pub(super) auditors: &'static str,
    pub(super) operators: &'static str,
    pub(super) details: &'static str,
    pub(super) scan_unit: &'static str,
    pub(super) scan_unit_text: &'static str,
    pub(super) choices: &'static str,
    pub(super) choices_text: &'static str,
}

static EN: Phrases = Phrases {
    skip: "Skip to the result",
    title: "Product check",
    served: "Served by",
    network: "in the network",
    test: "Test network",
    check_now: "Check this product now",
    report_code: "Report this code",
    only_button: "Only the button counts as a check. Looking at this page does not.",
    no_checks: "No checks are taken at the moment. What you see is what is known.",
    claim_opened: "Is there a code under a scratch layer or in the cap?",
    claim_label: "Code under the scratch layer",
    claim_hint: "13 characters, as in ABCD-EFGH-JKMNX. Scratch only a pack that you have bought.",
    claim_mistyped: "There is a typing error in this code. Nothing was counted. Please compare it with the pack: 13 characters, the last one \
                     may be a sign such as * or =.",
    claim_check: "Check both codes",
    product: "Product",
    no_product: "No registered product",
    serial: "Serial",
    first_checked: "First checked",
    checks: "Checks so far",
    good_until: "Good until",
    help: "Is something wrong?",
    help_keep: "Keep the pack and the receipt.",
    help_tell: "Show this page to the seller or to",
    help_contact: "Report it here:",
    about: "About this check",
    checked: "Checked",
    scan_id: "Number of this check",
    anchored: "Anchored by record",
    anchor: "Anchor in the ledger",
    anchor_follows: "follows within seconds",
    receipt: "Signed receipt",
    proof: "Proof that the ledger holds this check",
    code_proof: "Proof of this code",
    code_proof_file: "File for auditors",
    later: "When you checked, the brand could not be reached. It has answered since.",
    page_of_code: "Page of this code",
    lead: "Scan the code on the pack with your phone's camera, or type it here. You need not register.",
    type_label: "Link or code from the pack",
    type_hint: "The whole link, or the GTIN (14 digits) and then the serial, as printed.",
    type_button: "Show what is known",
    type_by_hand: "Type a code by hand",
    how: "What this is",
    how_text: "Companies that make and sell goods run this network together. Every pack has its own code, and the number of codes issued is \
               public. A check tells you whether the brand issued the code of your pack, and whether it was checked before. No \
               member can change that history alone.",
    privacy: "A check needs no name, no account and no position. Your address is not kept.",
    for_makers: "For shops, auditors and operators",
    pages: "Pages of codes",
    auditors: "Auditors",
    operators: "Operators",
    details: "Details",
    scan_unit: "One pack, one code",
    scan_unit_text: "This page is about the product in general. To check one pack, scan the code on it.",
    choices: "There is more than one page",
    choices_text: "Choose one:",
};

static ZH: Phrases = Phrases {
    skip: "跳到结果",
    title: "商品查验",
    served: "本页由",
    network: "提供，所属网络",
    test: "测试网络",
    check_now: "立即查验本产品",
    report_code: "上报此码",
    only_button: "只有按下按钮才算一次查验，浏览本页不算。",
    no_checks: "目前暂不接受查验，以下为已知信息。",
    claim_opened: "涂层下或瓶盖内还有验证码吗？",
    claim_label: "涂层下的验证码",
    claim_hint: "共13位，例如 ABCD-EFGH-JKMNX。请只刮开您已购买的产品。",
    claim_mistyped: "验证码输入有误，本次未计入。请与包装逐字核对：共13位，最后一位可能是 * 或 = 等符号。",
    claim_check: "同时查验两个码",
    product: "产品",
    no_product: "未登记的产品",
    serial: "序列号",
    first_checked: "首次查验",
    checks: "已查验次数",
    good_until: "有效期至",
    help: "有疑问？",
    help_keep: "请保留包装和购物凭证。",
    help_tell: "请向销售商或以下品牌方出示本页：",
    help_contact: "反馈渠道：",
    about: "本次查验信息",
    checked: "查验时间",
    scan_id: "查验编号",
    anchored: "已锚定于记录",
    anchor: "账本锚定",
    anchor_follows: "数秒内完成",
    receipt: "签名回执",
    proof: "本次查验已记入账本的证明",
    code_proof: "此码的证明",
    code_proof_file: "供审计核验的文件",
    later: "您查验时未能联系上品牌方，现已收到答复。",
    page_of_code: "此码的页面",
    lead: "用手机相机扫描包装上的码，或在此输入。无需注册。",
    type_label: "包装上的链接或码",
    type_hint: "完整链接；或先输入14位GTIN，再按印刷内容输入序列号。",
    type_button: "查看已知信息",
    type_by_hand: "手动输入",
    how: "这是什么",
    how_text: "本网络由生产和销售商品的企业共同运行。每件包装都有自己的码，签发数量公开可查。查验会告诉您：包装上的码是否由品牌方签发，\
               此前是否被查验过。任何一家成员都无法单独改写这段历史。",
    privacy: "查验无需姓名、账号或位置信息，也不保存您的网络地址。",
    for_makers: "店家、审计方与运营方",
    pages: "码的页面",
    auditors: "审计",
    operators: "运营",
    details: "详情",
    scan_unit: "一件一码",
    scan_unit_text: "本页介绍产品本身。要查验某一件产品，请扫描包装上的码。",
    choices: "有多个页面",
    choices_text: "请选择：",
};

impl Lang {
    /// The fixed words.
    pub(super) const fn phrases(self) -> &'static Phrases {
        match self {
            Self::En => &EN,
            Self::Zh => &ZH,
        }
    }
}

/// What a page says of a problem, by its kind; the exact reason stands below it, for whoever can use it.
pub(super) fn problem_words(lang: Lang, problem: &Problem) -> Words {
    let seconds = problem.retry_after_s.unwrap_or(1);
    let in_seconds = match seconds {
        1 => "in a second".to_owned(),
        n => format!("in {n} seconds"),
    };
    let (tone, en, zh) = match problem.kind {
        "slow-down" => (
            Tone::Wait,
            (
                "Please wait a moment",
                format!(
                    "Many codes are being tried from your connection. That says nothing about your product. Reload this page \
                     {in_seconds}."
                ),
            ),
            (
                "请稍候",
                format!("您的网络正在尝试大量的码，这不代表您的产品有问题。请在{seconds}秒后刷新本页。"),
            ),
        ),
        "no-checkpoint" | "not-anchored" => (
            Tone::Wait,
            (
                "The proof is not ready yet",
                format!("The ledger is still taking it in. Reload this page {in_seconds}."),
            ),
            (
                "证明尚未生成",
                format!("账本仍在记录中，请在{seconds}秒后刷新本页。"),
            ),
        ),
        "no-proof" => (
            Tone::Ask,
            (
                "There is no proof of this code here",
                "Only the node that issued a code can prove it, and a code that nobody issued has no proof.".to_owned(),
            ),
            (
                "此处没有该码的证明",
                "只有签发此码的节点才能出具证明；未签发的码没有证明。".to_owned(),
            ),
        ),
        "busy" | "timeout" | "read-only" | "not-ready" => (
            Tone::Wait,
            (
                "Not possible right now",
                format!("That says nothing about your product. Reload this page {in_seconds}."),
            ),
            (
                "暂时无法处理",
                format!("这不代表您的产品有问题。请在{seconds}秒后刷新本页。"),
            ),
        ),
        "gtin" | "code" => (
            Tone::Ask,
            (
                "This code cannot be read",
                "The link or number has a typing or reading error. Scan the code again, or type it as it is printed.".to_owned(),
            ),
            (
                "无法识别此码",
                "链接或号码可能输入或读取有误。请重新扫描，或按印刷内容输入。".to_owned(),
            ),
        ),
        "no-product" => (
            Tone::Ask,
            (
                "This product is not registered here",
                "No member of this network has registered it. Other products can be checked at their own brand.".to_owned(),
            ),
            (
                "本网络未登记此产品",
                "本网络没有成员登记过此产品。其他产品请向其品牌方查验。".to_owned(),
            ),
        ),
        "link-type" => (
            Tone::Ask,
            (
                "There is no such page for this product",
                "The product is known, but it has no page of this kind.".to_owned(),
            ),
            ("此产品没有这类页面", "产品已登记，但没有这一类型的页面。".to_owned()),
        ),
        "not-found" => (
            Tone::Ask,
            (
                "This page does not exist",
                "The address is not one of ours, or it was cut off. Scan the code on the pack again.".to_owned(),
            ),
            (
                "页面不存在",
                "网址有误或不完整。请重新扫描包装上的码。".to_owned(),
            ),
        ),
        "internal" => (
            Tone::Wait,
            (
                "Something went wrong on our side",
                "That says nothing about your product. Please try again later.".to_owned(),
            ),
            (
                "我们这边出了问题",
                "这不代表您的产品有问题。请稍后再试。".to_owned(),
            ),
        ),
        _ => (
            Tone::Ask,
            (
                "This did not work",
                "The request is not of the expected form. Go back and try again.".to_owned(),
            ),
            ("操作未成功", "请求格式有误，请返回重试。".to_owned()),
        ),
    };
    let (headline, text) = match lang {
        Lang::En => en,
        Lang::Zh => zh,
    };
    Words {
        tone,
        headline: headline.to_owned(),
        text,
    }
}
