use super::*;

const PARTY: &str = "TALLY_TEST_PSI_PARTY";

/// Not a test of its own: the party that the tests below start.
#[test]
fn party() {
    if std::env::var_os(PARTY).is_none() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Err(e) = runtime.block_on(psi_party()) {
        eprintln!("{e}");
        std::process::exit(1);
    }
}

fn options(engine: &str, computation: Computation, input: Input) -> Options {
    Options {
        engine: engine.into(),
        malicious: false,
        computation,
        input,
        rule: Rule::STANDARD,
        out: None,
        party: PartyCommand {
            program: std::env::current_exe().unwrap(),
            args: ["bench::psi::tests::party", "--exact", "--nocapture"]
                .map(OsString::from)
                .to_vec(),
            env: vec![(PARTY.into(), "1".into())],
        },
    }
}

/// `TALLY_BENCH_N` sets another size, for figures.
#[tokio::test]
async fn every_engine_and_computation_between_two_processes_is_correct() {
    let n = std::env::var("TALLY_BENCH_N")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3_000);
    for (engine, computation) in [
        ("dh", Computation::List),
        ("dh", Computation::Cardinality),
        ("vole", Computation::List),
    ] {
        let figures = run(&options(engine, computation, Input::Generated(n)))
            .await
            .unwrap();
        println!("{}", serde_json::to_string(&figures).unwrap());
        assert!(figures.correct);
        assert_eq!((figures.n, figures.matches), (n, n / 2));
        assert!(figures.bytes_per_item > 24.0 && figures.cpu_us_per_item > 0.1);
    }
}

#[tokio::test]
async fn lists_in_buckets_between_two_processes_are_correct() {
    for (engine, malicious) in [("dh", false), ("vole", false), ("vole", true)] {
        let mut o = options(engine, Computation::List, Input::Generated(3_000));
        o.malicious = malicious;
        o.rule = Rule {
            single: 1_000,
            mean: 800,
        };
        let figures = run(&o).await.unwrap();
        assert!(figures.correct);
        assert_eq!((figures.n, figures.matches), (3_000, 1_500));
    }
    // One side is small and holds repeats.
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, rows: std::ops::Range<u32>| {
        let path = dir.path().join(name);
        let rows: String = rows.map(|i| format!("{}\n", i % 700)).collect();
        std::fs::write(&path, format!("id\n{rows}")).unwrap();
        path
    };
    let (a, b) = (file("a.csv", 0..1_500), file("b.csv", 690..710));
    for (a, b) in [(a.clone(), b.clone()), (b, a)] {
        let mut o = options("vole", Computation::List, Input::Files(a, b));
        o.rule = Rule {
            single: 100,
            mean: 100,
        };
        let figures = run(&o).await.unwrap();
        assert!(figures.correct);
        assert_eq!(figures.matches, 20);
    }
}

#[tokio::test]
async fn counts_beyond_memory_between_two_processes_are_correct() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, rows: std::ops::Range<u32>| {
        let path = dir.path().join(name);
        let rows: String = rows.map(|i| format!("{}\n", i % 10_000)).collect();
        std::fs::write(&path, format!("id\n{rows}")).unwrap();
        path
    };
    // Repeats of one side, and a side that is short.
    let (a, b) = (file("a.csv", 0..14_000), file("b.csv", 9_990..10_020));
    for (a, b) in [(a.clone(), b.clone()), (b, a)] {
        let mut o = options("dh", Computation::Cardinality, Input::Files(a, b));
        o.rule = Rule {
            single: 100,
            mean: 100,
        };
        let figures = run(&o).await.unwrap();
        assert!(figures.correct);
        assert_eq!((figures.n, figures.matches), (10_000, 30));
    }
}

#[tokio::test]
async fn files_with_repeats_and_a_missing_column() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let a = file("a.csv", "name,phone\nx,1\ny,2\nz,2\nw,\nv,5\n");
    let b = file("b.csv", "hash\n5\n2\n3\n");
    for engine in ["dh", "vole"] {
        let out = dir.path().join(engine);
        let mut o = options(
            engine,
            Computation::List,
            Input::Files(a.clone(), b.clone()),
        );
        o.out = Some(out.clone());
        let figures = run(&o).await.unwrap();
        assert!(figures.correct);
        assert_eq!((figures.n, figures.matches), (3, 2));
        assert_eq!(std::fs::read_to_string(out).unwrap(), "phone\n2\n5\n");
    }
    let c = file("c.csv", "mail,name\n2,3\n");
    let o = options("vole", Computation::List, Input::Files(a, c));
    assert!(matches!(
        run(&o).await,
        Err(Error::Party { role: "b", .. } | Error::Csv { .. })
    ));
}

#[tokio::test]
async fn an_unknown_engine_is_refused() {
    let o = options("kkrt", Computation::List, Input::Generated(1));
    assert!(matches!(run(&o).await, Err(Error::Engine { .. })));
    let o = options("vole", Computation::Cardinality, Input::Generated(1));
    assert!(matches!(run(&o).await, Err(Error::Computation { .. })));
}
