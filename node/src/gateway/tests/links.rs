//! How links are read and resolved, and pages in the visitor's language.

use super::*;

#[tokio::test]
async fn pages_read_links_as_gs1_says_and_escape_what_they_show() {
    let dir = dir();
    let site = site(dir.path()).await;
    for path in [
        format!("/01/{GTIN}/10/LOT1/21/G1?17=270101&x=y"),
        format!("/01/{GTIN}/22/A/10/B/21/G1"),
        format!("/01/{GTIN}/21/%3Cscript%3E%22%27%26"),
    ] {
        let page = site.get(&path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(!page.body.contains("<script"));
    }
    for (path, status, reason) in [
        ("/01/09521234543214/21/G1".to_owned(), 400, "check digit"),
        (format!("/01/{GTIN_OF_NOBODY}"), 404, "not registered"),
        (format!("/01/{GTIN}/21/G1/10/B"), 400, "link"),
        (format!("/01/{GTIN}/21/G1/"), 400, "slash"),
        (format!("/01/{GTIN}/21/{}", "A".repeat(21)), 400, "(21)"),
        ("/s/".to_owned(), 404, "does not exist"),
        (format!("/s/{}", "0".repeat(32)), 404, "does not exist"),
        ("/s/x".to_owned(), 404, "does not exist"),
        ("/check?code=hello".to_owned(), 400, "14 digits"),
        ("/check".to_owned(), 400, "14 digits"),
    ] {
        let page = site.person(&path).await;
        assert_eq!(page.status, status, "{path}");
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8"),
            "{path}"
        );
        assert!(page.body.contains(reason), "{path}: {}", page.body);
        // A program is told the same in JSON.
        let document = site
            .send("GET", &path, "Accept: application/json\r\n", "")
            .await;
        assert_eq!(document.status, status, "{path}");
        assert_eq!(
            document.header("content-type"),
            Some("application/problem+json"),
            "{path}"
        );
        assert_eq!(document.json()["status"], status);
    }
    let product = site.person(&format!("/01/{GTIN}")).await;
    assert_eq!(product.status, 200);
    assert!(product.body.contains("Tea, 100 g &#60;green&#62;") && !product.body.contains("<form"));
    for (typed, to) in [
        ("09521234543213+g1-%2F+", "/01/09521234543213/21/g1-%2F"),
        (
            "%2801%2909521234543213%2821%29G1",
            "/01/09521234543213/21/G1",
        ),
        (
            "https%3A%2F%2Fid.example.cn%2F01%2F09521234543213%2F21%2FG1&lang=zh",
            "/01/09521234543213/21/G1?lang=zh",
        ),
    ] {
        let answer = site.get(&format!("/check?code={typed}")).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some(to)));
    }
    assert_eq!(site.get("/").await.status, 200);
}

#[tokio::test]
async fn links_are_resolved_as_gs1_says() {
    let dir = dir();
    let site = site(dir.path()).await;
    let unit = format!("/01/{GTIN}/21/G1");
    let root = "http://id.example.cn";
    let page = site.person(&unit).await;
    let linkset =
        format!("<{root}{unit}?linkType=all>; rel=\"linkset\"; type=\"application/linkset+json\"");
    assert_eq!(page.header("link"), Some(linkset.as_str()));
    let ask = async |path: &str, accept: &str, language: &str| {
        let headers = format!("Accept: {accept}\r\nAccept-Language: {language}\r\n");
        site.send("GET", path, &headers, "").await
    };
    for (path, accept) in [
        (format!("{unit}?linkType=all"), "*/*"),
        (format!("{unit}?linkType=linkset"), "text/html"),
        (unit.clone(), "application/linkset+json"),
        (unit.clone(), "application/json, text/html;q=0.5"),
    ] {
        let answer = ask(&path, accept, "en").await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/linkset+json")
        );
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(
            answer.header("cross-origin-resource-policy"),
            Some("cross-origin")
        );
        let set = &answer.json()["linkset"][0];
        assert_eq!(set["anchor"], format!("{root}{unit}"));
        for kind in ["defaultLink", "verificationService", "recallStatus"] {
            let targets = set[format!("https://gs1.org/voc/{kind}")]
                .as_array()
                .expect("links");
            assert_eq!(
                (targets.len(), &targets[0]["href"]),
                (1, &json!(format!("{root}{unit}")))
            );
        }
        let pip = &set["https://gs1.org/voc/pip"];
        assert_eq!(pip[1]["href"], format!("{root}/01/{GTIN}?lang=zh"));
        assert_eq!(pip[1]["hreflang"], json!(["zh"]));
    }
    // One link, or the one of the visitor's language: go there, and take the rest of the query along.
    for (query, language, to) in [
        (
            "linkType=gs1:verificationService&17=270101",
            "fr",
            format!("{root}{unit}?17=270101"),
        ),
        ("linkType=gs1:defaultLink", "fr", format!("{root}{unit}")),
        (
            "linkType=gs1:pip",
            "zh-CN,en;q=0.4",
            format!("{root}/01/{GTIN}?lang=zh"),
        ),
        (
            "linkType=https%3A%2F%2Fgs1.org%2Fvoc%2Fpip",
            "en",
            format!("{root}/01/{GTIN}?lang=en"),
        ),
        (
            "linkType=gs1:pip&lang=zh",
            "en",
            format!("{root}/01/{GTIN}?lang=zh"),
        ),
    ] {
        let answer = ask(&format!("{unit}?{query}"), "*/*", language).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (307, Some(to.as_str())),
            "{query}"
        );
        let head = site
            .send(
                "HEAD",
                &format!("{unit}?{query}"),
                &format!("Accept-Language: {language}\r\n"),
                "",
            )
            .await;
        assert_eq!(
            (head.status, head.header("location")),
            (307, Some(to.as_str()))
        );
    }
    // Several that are as good as each other: a list, for a person a page of it.
    let both = ask(&format!("{unit}?linkType=gs1:pip"), "*/*", "fr").await;
    assert_eq!(
        (both.status, both.header("content-type")),
        (300, Some("application/linkset+json"))
    );
    assert_eq!(
        both.json()["linkset"][0]["https://gs1.org/voc/pip"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    let both = ask(&format!("{unit}?linkType=gs1:pip"), "text/html", "fr").await;
    assert_eq!(both.status, 300);
    assert!(
        both.body.contains(&format!("{root}/01/{GTIN}?lang=zh")),
        "{}",
        both.body
    );
    // None: 404, in the form that was asked for.
    for kind in [
        "gs1:traceability",
        "gs1:promotion",
        "nonsense",
        "%3Cscript%3E",
    ] {
        let none = ask(&format!("{unit}?linkType={kind}"), "application/json", "en").await;
        assert_eq!(
            (none.status, none.json()["type"].as_str()),
            (404, Some("urn:tally:problem:link-type")),
            "{kind}"
        );
        assert_eq!(
            ask(&format!("{unit}?linkType={kind}"), "text/html", "en")
                .await
                .status,
            404
        );
    }
    let nobody = ask(&format!("/01/{GTIN_OF_NOBODY}?linkType=all"), "*/*", "en").await;
    assert_eq!(nobody.status, 404);
    let product = ask(&format!("/01/{GTIN}/10/LOT?linkType=all"), "*/*", "en")
        .await
        .json();
    assert_eq!(product["linkset"][0]["anchor"], format!("{root}/01/{GTIN}"));
    assert_eq!(
        product["linkset"][0].get("https://gs1.org/voc/verificationService"),
        None
    );
    let described = site.get("/.well-known/gs1resolver").await;
    assert_eq!(described.header("content-type"), Some("application/json"));
    assert_eq!(described.json()["resolverRoot"], root);
    assert_eq!(described.json()["supportedPrimaryKeys"], json!(["01"]));
    // Nothing of this was a scan.
    assert_eq!(site.node.service.log().size(), 0);
}

#[tokio::test]
async fn pages_speak_the_visitors_language_and_keep_the_choice() {
    let dir = dir();
    let site = site(dir.path()).await;
    let path = format!("/01/{GTIN}/21/G1");
    let chinese = site
        .send(
            "GET",
            &path,
            "Accept-Language: zh-CN,zh;q=0.9,en;q=0.8\r\n",
            "",
        )
        .await;
    assert_eq!(chinese.header("content-language"), Some("zh-Hans"));
    assert!(
        chinese.body.contains("<html lang=\"zh-Hans\">") && chinese.body.contains("尚未被查验")
    );
    assert!(chinese.body.contains("href=\"?lang=en\""));
    let switched = site.get(&format!("{path}?17=270101&lang=zh")).await;
    assert!(
        switched.body.contains("action=\"?17=270101&#38;lang=zh\""),
        "{}",
        switched.body
    );
    let pressed = site
        .press(&format!("{path}?lang=zh"), &token(&switched))
        .await;
    let to = pressed.header("location").expect("location").to_owned();
    assert!(to.ends_with("?lang=zh"), "{to}");
    let result = site.get(&to).await;
    assert!(result.body.contains("您是第一位查验者"));
    assert!(result.body.contains(&format!("action=\"{path}?lang=zh\"")));
    for bad in ["/nothing?lang=zh", "/s/x?lang=zh", "/01/1?lang=zh"] {
        let page = site.person(bad).await;
        assert!(page.body.contains("<html lang=\"zh-Hans\">"), "{bad}");
    }
}

#[tokio::test]
async fn a_base_path_works_with_and_without_a_proxy_that_strips_it() {
    let dir = dir();
    let site = site_with(
        node(BRAND, dir.path()),
        |c| c.base_url = "https://id.example.cn/tally".into(),
        ServeLimits::default(),
    )
    .await;
    for prefix in ["", "/tally"] {
        let path = format!("{prefix}/01/{GTIN}/21/G1");
        let page = site.get(&path).await;
        assert!(page.body.contains("href=\"/tally/assets/mark.svg\""));
        let pressed = site.press(&path, &token(&page)).await;
        assert!(
            pressed
                .header("location")
                .is_some_and(|l| l.starts_with("/tally/s/"))
        );
        assert_eq!(
            site.get(&format!("{prefix}/assets/mark.svg")).await.status,
            200
        );
    }
}

#[tokio::test]
async fn the_query_is_read_by_the_rules_too() {
    let dir = dir();
    let site = site(dir.path()).await;
    for (query, reason) in [
        ("21=A", "21"),
        ("10=A", "10"),
        ("17=991399", "17"),
        ("99=A&99=A", "99"),
        ("89=X", "89"),
        ("01=09521234543213", "twice"),
    ] {
        for path in [
            format!("/01/{GTIN}?{query}"),
            format!("/01/{GTIN}/21/G1?{query}&linkType=all"),
        ] {
            let answer = site
                .send("GET", &path, "Accept: application/json\r\n", "")
                .await;
            assert_eq!(answer.status, 400, "{path}");
            let detail = answer.json()["detail"].to_string();
            assert!(detail.contains(reason), "{path}: {detail}");
        }
        let path = format!("/01/{GTIN}/21/G1?{query}");
        assert_eq!(site.press(&path, "0").await.status, 400, "{path}");
    }
    for query in [
        "17=270101&99=A&98=B",
        "lang=zh&utm_source=x&utm_medium=%E7%A0%81",
        "context=x&a&b=&&=c",
        "17x=991399&x17=1",
    ] {
        let path = format!("/01/{GTIN}/21/G1?{query}");
        assert_eq!(site.person(&path).await.status, 200, "{path}");
        let path = format!("/01/{GTIN}?{query}&linkType=gs1:pip&lang=en");
        assert_eq!(site.get(&path).await.status, 307, "{path}");
    }
}

/// The links of GS1's own engine, through the router. Refused and accepted ones are counted apart.
#[tokio::test]
async fn links_that_gs1_refuses_are_refused_by_the_gateway() {
    let vectors = std::env::var_os("TALLY_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"),
        Into::into,
    );
    let file = vectors.join("gs1").join("digital-link.json");
    let Ok(bytes) = std::fs::read(&file) else {
        println!("skipped: {} is not there", file.display());
        let is_strict = std::env::var("CI_STRICT").is_ok_and(|v| v == "1");
        assert!(!is_strict, "the vectors of GS1 are missing");
        return;
    };
    let vectors: Value = serde_json::from_slice(&bytes).expect("JSON");
    let dir = dir();
    let site = site(dir.path()).await;
    let (mut refused, mut accepted) = (0, 0);
    for vector in vectors["test_dl_parseDLuri"].as_array().expect("links") {
        let uri = vector["uri"].as_str().expect("a URI");
        let Some((_, rest)) = uri.split_once("://") else {
            continue;
        };
        // Stems and other keys have no route here; what needs an option of the engine is asked of the library.
        let Some(path) = rest.find('/').and_then(|at| rest.get(at..)) else {
            continue;
        };
        let Some(path) = path.split('#').next().filter(|p| p.starts_with("/01/")) else {
            continue;
        };
        let is_ok = vector["ok"] == true;
        if is_ok && vector.get("state").is_some() {
            continue;
        }
        let answer = site
            .send("GET", path, "Accept: application/json\r\n", "")
            .await;
        if is_ok {
            // Nobody has registered these GTINs.
            assert_eq!(answer.status, 404, "{uri}");
            assert_eq!(answer.problem(), "no-product", "{uri}");
            accepted += 1;
        } else {
            assert_eq!(answer.status, 400, "{uri}");
            refused += 1;
        }
    }
    println!("{refused} refused, {accepted} accepted");
    assert!(refused >= 8 && accepted >= 8, "{refused} {accepted}");
}

/// A brand's own links, of the types that GS1 names.
#[tokio::test]
async fn a_brand_gives_further_links_for_its_products() {
    let dir = dir();
    let link = |kind: &str, url: &str, more: &str| {
        format!(
            "[[link]]\ngtin = \"{GTIN}\"\ntype = \"{kind}\"\nurl = \"{url}\"\ntitle = \"{kind}\"\n{more}\n"
        )
    };
    let kinds = [
        "traceability",
        "epcis",
        "promotion",
        "loyaltyProgram",
        "registerProduct",
        "reportFound",
        "dpp",
    ];
    let mut file: String = kinds
        .iter()
        .map(|kind| link(kind, &format!("https://brand.example/{kind}"), ""))
        .collect();
    for lang in ["en", "de"] {
        let url = format!("https://brand.example/{lang}/care?from=code");
        file += &link("instructions", &url, &format!("lang = \"{lang}\""));
    }
    file += &link(
        "recallStatus",
        "https://brand.example/recalls.pdf",
        "media = \"application/pdf\"",
    );
    let links = ProductLinks::parse(&file).expect("links");
    let of_site = links.clone();
    let site = site_with(
        node(BRAND, dir.path()),
        |c| c.links = of_site,
        ServeLimits::default(),
    )
    .await;
    let unit = format!("/01/{GTIN}/21/G1");
    for kind in kinds {
        for path in [format!("/01/{GTIN}"), unit.clone()] {
            let answer = site
                .get(&format!("{path}?17=270101&linkType=gs1:{kind}"))
                .await;
            assert_eq!(answer.status, 307, "{kind}");
            let to = format!("https://brand.example/{kind}?17=270101");
            assert_eq!(answer.header("location"), Some(&*to));
        }
    }
    let all = site.get(&format!("{unit}?linkType=all")).await.json();
    let context = &all["linkset"][0];
    let of = |kind: &str| context[&format!("https://gs1.org/voc/{kind}")].clone();
    assert_eq!(of("dpp")[0]["hreflang"], json!([]));
    assert_eq!(of("instructions")[1]["hreflang"], json!(["de"]));
    // Beside the node's own page, which comes first.
    assert_eq!(of("recallStatus").as_array().map(Vec::len), Some(2));
    assert_eq!(of("recallStatus")[1]["type"], "application/pdf");
    assert_eq!(of("verificationService").as_array().map(Vec::len), Some(1));
    let instructions = format!("{unit}?linkType=gs1:instructions");
    for (languages, query, to) in [
        ("de-AT,en;q=0.5", "", Some("de")),
        ("fr, en;q=0.1, de;q=0", "", Some("en")),
        ("de", "&lang=en", Some("en")),
        ("fr", "", None),
    ] {
        let headers = format!("Accept-Language: {languages}\r\n");
        let path = format!("{instructions}{query}");
        let answer = site.send("GET", &path, &headers, "").await;
        assert_eq!(
            answer.status,
            if to.is_some() { 307 } else { 300 },
            "{languages}"
        );
        let found = answer.header("location").unwrap_or_default();
        assert!(found.contains(&format!("/{}/care", to.unwrap_or_default())) || to.is_none());
    }
    let answer = site.get(&format!("{unit}?linkType=gs1:recallStatus")).await;
    assert_eq!(answer.status, 300, "two that are as good as each other");
    // At the node of another member, the product is not its to link.
    let other = super::dir();
    let other = site_with(
        node(crate::scans::testkit::MEDIA, other.path()),
        |c| c.links = links,
        ServeLimits::default(),
    )
    .await;
    let path = format!("/01/{GTIN}?linkType=gs1:dpp");
    assert_eq!(other.get(&path).await.status, 404);
}
