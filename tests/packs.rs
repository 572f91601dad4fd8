//! Packs in folders: finding, combining and rejecting them.

use std::path::Path;

use crate::guests::component;
use crate::support::Machine;

const TEXT: &str = "Bread is baked every morning. It is sold out by noon.";

#[test]
fn a_pack_in_the_packs_folder_is_compiled_once_and_runs() {
    let machine = Machine::new();
    machine.install_pack("hello", &component("hello"));
    let args = [
        "infer",
        "hello/greet",
        "-p",
        "name=Ada",
        "--engine",
        "embedded",
    ];
    let run = machine.run(&args);
    assert_eq!(run.ok(), "Hello, Ada, and welcome to the pack!\n");
    assert!(
        run.stderr.contains("compiling pack hello"),
        "{}",
        run.stderr
    );
    // The second run uses the cache.
    let run = machine.run(&args);
    assert_eq!(run.ok(), "Hello, Ada, and welcome to the pack!\n");
    assert!(!run.stderr.contains("compiling"), "{}", run.stderr);
    // A changed file under the same name is a new pack.
    machine.install_pack("hello", &component("shout"));
    let run = machine.run(&args);
    assert!(
        run.fails(2).contains("pack `hello` has no prompts"),
        "{run:?}"
    );
}

#[test]
fn unknown_names_are_errors_with_suggestions() {
    let machine = Machine::new();
    machine.install_pack("hello", &component("hello"));
    for (args, message) in [
        (&["render", "helo/greet"][..], "did you mean `hello`?"),
        (
            &["render", "hello"],
            "`hello` is a pack; its prompts are called `hello/PROMPT`",
        ),
        (&["render", "hello/greeet"], "did you mean `greet`?"),
        (&["render", "hello/greet"], "-p name=VALUE"),
        (&["render", "greet", "--pack", "./none.wasm"], "none.wasm"),
    ] {
        let run = machine.run(args);
        assert!(run.fails(2).contains(message), "{args:?}: {run:?}");
    }
}

#[test]
fn processors_of_several_packs_run_in_the_given_order() {
    let machine = Machine::new();
    machine.install_pack("shout", &component("shout"));
    let hello = machine.write(
        "elsewhere/hello.wasm",
        std::fs::read(component("hello")).unwrap(),
    );
    let hello = hello.to_str().unwrap();
    let base = [
        "infer", "greet", "--pack", hello, "-p", "name=Bo", "--engine", "embedded", "--json",
    ];
    let run = |more: &[&'static str]| {
        let run = machine.run(&[&base[..], more].concat());
        run.ok();
        let json = run.json();
        let packs: Vec<String> = json["packs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pack| pack["name"].as_str().unwrap().to_owned())
            .collect();
        (json["text"].as_str().unwrap().to_owned(), packs.join(" "))
    };
    // The resolver of one pack, processors of another and of the standard pack, in both
    // orders.
    let upper_first = run(&[
        "--post",
        "shout/upper",
        "--post",
        "replace:from=HELLO,to=Goodbye",
    ]);
    assert_eq!(upper_first.0, "Goodbye, BO, AND WELCOME TO THE PACK!");
    assert_eq!(upper_first.1, "hello shout standard");
    let replace_first = run(&[
        "--post",
        "replace:from=Hello,to=Goodbye",
        "--post",
        "shout/upper",
    ]);
    assert_eq!(replace_first.0, "GOODBYE, BO, AND WELCOME TO THE PACK!");
    assert_eq!(replace_first.1, "hello standard shout");
    let counted = run(&["--post", "shout/count", "--post", "shout/upper"]);
    assert_eq!(counted.0, "HELLO, BO, AND WELCOME TO THE PACK! (7 WORDS)");
}

#[test]
fn the_nearest_pack_is_used_with_a_warning_about_the_other() {
    let machine = Machine::new();
    machine.install_pack("hello", &component("hello"));
    machine.write(
        "more/hello.wasm",
        std::fs::read(component("shout")).unwrap(),
    );
    let run = machine.run(&[
        "render",
        "hello/greet",
        "-p",
        "name=X",
        "--pack-dir",
        "more",
    ]);
    assert!(run.ok().contains("Hello, X"), "{run:?}");
    assert!(
        run.stderr.contains("more/hello.wasm has the same name"),
        "{run:?}"
    );
}

#[test]
fn reserved_and_invalid_pack_names_are_rejected() {
    let machine = Machine::new();
    let bytes = std::fs::read(component("hello")).unwrap();
    for name in [
        "standard.wasm",
        "stock.wasm",
        "Hello.wasm",
        "a b.wasm",
        ".wasm",
    ] {
        machine.write(name, &bytes);
        let run = machine.run(&["render", "greet", "--pack", &format!("./{name}")]);
        assert!(
            run.fails(2).contains("invalid pack name `"),
            "{name}: {run:?}"
        );
    }
}

#[test]
fn files_that_are_not_packs_are_rejected_with_the_reason() {
    let machine = Machine::new();
    let core = wat::parse_str("(module)").unwrap();
    let import = |name: &str| {
        wat::parse_str(format!(
            "(component (import \"{name}\" (instance (export \"f\" (func)))))"
        ))
        .unwrap()
    };
    let export = |name: &str| {
        wat::parse_str(format!(
            "(component (instance $i) (export \"{name}\" (instance $i)))"
        ))
        .unwrap()
    };
    let mut truncated = std::fs::read(component("hello")).unwrap();
    truncated.truncate(truncated.len() / 2);
    let compiled = {
        let _ = machine.run(&["render", "{{text}}", "--text", "x"]).ok();
        let cache = machine.home().join("cache/packs");
        let mut files = std::fs::read_dir(cache)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        std::fs::read(
            files
                .find(|path| path.extension().is_some_and(|e| e == "cwasm"))
                .unwrap(),
        )
        .unwrap()
    };
    for (name, bytes, message) in [
        ("text", b"hello there".to_vec(), "not a WebAssembly file"),
        ("empty", Vec::new(), "not a WebAssembly file"),
        ("core", core, "core WebAssembly module"),
        ("compiled", compiled, "precompiled machine code"),
        ("truncated", truncated, "invalid WebAssembly"),
        (
            "http",
            import("wasi:http/outgoing-handler@0.2.6"),
            "`wasi:http/outgoing-handler@0.2.6`",
        ),
        (
            "newer",
            export("lmstrix:prompts/catalog@0.2.0"),
            "update lmstrix-host",
        ),
        (
            "older",
            export("lmstrix:prompts/catalog@0.0.9"),
            "update the pack",
        ),
        (
            "other",
            export("some:thing/else@1.0.0"),
            "some:thing/else@1.0.0",
        ),
        (
            "nothing",
            wat::parse_str("(component)").unwrap(),
            "(exports: none)",
        ),
        (
            "changed",
            std::fs::read(component("changed")).unwrap(),
            "expected record of 4 fields",
        ),
    ] {
        machine.write(&format!("packs/{name}.wasm"), bytes);
        let run = machine.run(&["render", &format!("{name}/x")]);
        let stderr = run.fails(3);
        assert!(stderr.contains(&format!("pack `{name}`")), "{stderr}");
        assert!(stderr.contains(message), "{name}: {stderr}");
    }
}

#[cfg(unix)]
#[test]
fn only_regular_files_inside_the_folder_are_packs() {
    let machine = Machine::new();
    let outside = machine.write("outside.wasm", std::fs::read(component("hello")).unwrap());
    machine.write(
        "packs/inside.wasm",
        std::fs::read(component("hello")).unwrap(),
    );
    let packs = machine.work().join("packs");
    std::os::unix::fs::symlink(outside, packs.join("link.wasm")).unwrap();
    std::os::unix::fs::symlink("inside.wasm", packs.join("alias.wasm")).unwrap();
    std::fs::create_dir(packs.join("folder.wasm")).unwrap();
    let render = |name: &str| machine.run(&["render", &format!("{name}/greet"), "-p", "name=X"]);
    assert!(
        render("link")
            .fails(3)
            .contains("points outside its folder")
    );
    assert!(render("folder").fails(3).contains("not a regular file"));
    assert!(render("alias").ok().contains("Hello, X"));
}

/// The user named the folder, but a plan may come from elsewhere.
#[cfg(unix)]
#[test]
fn links_in_a_folder_that_the_user_named_may_point_outside() {
    use std::os::unix::fs::symlink;
    let machine = Machine::new();
    let outside = machine.write("build/built.wasm", lmstrix_sandbox::STANDARD_WASM);
    let prompts = machine.write("build/built.toml", "near = 'beside'\n");
    let folder = machine.work().join("mine");
    std::fs::create_dir(&folder).unwrap();
    symlink(outside, folder.join("link.wasm")).unwrap();
    symlink(prompts, folder.join("link.toml")).unwrap();
    let args = ["render", "link/near", "--pack-dir", "mine"];
    assert_eq!(machine.run(&args).ok(), "beside\n");
    // The user may also name a folder that is searched anyway.
    std::fs::create_dir(machine.work().join("packs")).unwrap();
    symlink("../mine/link.wasm", machine.work().join("packs/near.wasm")).unwrap();
    let near = ["render", "near/x", "--prompts", "build/built.toml"];
    assert!(
        machine
            .run(&near)
            .fails(3)
            .contains("points outside its folder")
    );
    let named = machine.run(&[&near[..], &["--pack-dir", "packs"]].concat());
    assert!(named.fails(2).contains("has no prompt `x`"), "{named:?}");
    machine.write(
        "plan.toml",
        "engine = \"embedded\"\nmodels = \"demo\"\nout = \"out\"\npack_dirs = \"mine\"\n\
         [[prompt]]\nname = \"link/near\"\n",
    );
    let batch = machine.run(&["batch", "plan.toml", "--dry-run"]);
    assert_eq!(batch.code, Some(1), "{batch:?}");
    let table = String::from_utf8_lossy(&batch.stdout);
    assert!(table.contains("points outside its folder"), "{table}");
    let config = "[defaults]\ndiscover = false\npack_dirs = [\"../work/mine\"]\n";
    std::fs::write(machine.home().join("config.toml"), config).unwrap();
    machine.run(&["batch", "plan.toml", "--dry-run"]).ok();
}

#[test]
fn files_of_the_command_line_reach_packs() {
    let machine = Machine::new();
    machine.install_pack("glossary", &component("glossary"));
    machine.write("terms/glossary.csv", "term,translation\nsea,Meer\n");
    let args = ["render", "glossary/translate", "--text", "The sea."];
    let with_file = [&args[..], &["--file", "terms/glossary.csv"]].concat();
    let missing = machine.run(&args);
    let message =
        "glossary.csv: there is no such file beside the pack, and `--file` did not name it";
    assert!(missing.fails(2).contains(message), "{missing:?}");
    assert!(machine.run(&with_file).ok().contains("- sea: Meer"));
    machine.write("packs/glossary.csv", "term,translation\nsea,See\n");
    assert!(machine.run(&args).ok().contains("- sea: See"));
    // The file that the user named comes first.
    assert!(machine.run(&with_file).ok().contains("- sea: Meer"));
    // The stock prompts are still there, and the file is not one with prompts.
    let stock = ["render", "tldr", "--text", "x"];
    machine.write("terms/terms.toml", "tldr = 'other'\n[broken]\nprompt = 1\n");
    let with_toml = machine.run(&[&stock[..], &["--file", "terms/terms.toml"]].concat());
    assert_eq!(with_toml.ok(), machine.run(&stock).ok());
    let absent = machine.run(&[&args[..], &["--file", "none.csv"]].concat());
    assert!(absent.fails(2).contains("none.csv"), "{absent:?}");

    machine.write(
        "plan.toml",
        "engine = \"embedded\"\nmodels = \"demo\"\nout = \"out\"\nfiles = \"terms/glossary.csv\"\n\
         [[prompt]]\nname = \"glossary/translate\"\nlabel = \"sea\"\npost = []\n\
         [[input]]\ntext = \"The sea.\"\nname = \"one\"\n",
    );
    let batch = ["batch", "plan.toml", "--progress", "none"];
    machine.run(&batch).ok();
    assert!(
        machine
            .run(&[&batch[..], &["--dry-run"]].concat())
            .ok()
            .contains("done")
    );
    let printed = machine.run(&["batch", "plan.toml", "--file", "more.txt", "--print-plan"]);
    let printed = printed.ok();
    assert!(
        printed.contains("glossary.csv\"") && printed.contains("more.txt"),
        "{printed}"
    );
    machine.write("terms/glossary.csv", "term,translation\nsea,Ozean\n");
    let changed = machine.run(&[&batch[..], &["--dry-run"]].concat());
    assert!(changed.ok().contains("changed"), "{changed:?}");
}

#[test]
fn packs_learn_the_limit_of_the_answer() {
    let machine = Machine::new();
    machine.install_pack("evil", &component("hostile"));
    let args = [
        "infer",
        "evil/model",
        "--engine",
        "embedded",
        "--show-request",
    ];
    let unlimited = machine.run(&args);
    unlimited.ok();
    assert!(
        !unlimited.stderr.contains("key: \"max-tokens\""),
        "{unlimited:?}"
    );
    let limited = machine.run(&[&args[..], &["--max-tokens", "7"]].concat());
    limited.ok();
    let fact = "key: \"max-tokens\", value: \"7\"";
    assert!(limited.stderr.contains(fact), "{limited:?}");
    // `render` gives a pack the same, if it gives it a model.
    let rendered = ["render", "evil/model", "--max-tokens", "7"];
    let with_model = machine.run(&[&rendered[..], &["--context", "4096"]].concat());
    assert!(with_model.ok().contains(fact), "{with_model:?}");
    assert_eq!(machine.run(&rendered).ok().trim_end(), "None");
}

#[cfg(unix)]
#[test]
fn a_pack_receives_only_its_own_sidecar_files() {
    let machine = Machine::new();
    machine.write("packs/adam.wasm", lmstrix_sandbox::STANDARD_WASM);
    machine.write("packs/adam.bin", [0xff; 100]);
    machine.write("packs/adam.toml", "near = 'beside'\n");
    machine.write("packs/adam/more.toml", "inner = 'inside'\n");
    machine.write("packs/other.toml", "far = 'of another'\n");
    machine.write("secret/leak.toml", "leak = 'secret'\n");
    let packs = machine.work().join("packs");
    std::os::unix::fs::symlink("../../secret/leak.toml", packs.join("adam/link.toml")).unwrap();
    assert_eq!(machine.run(&["render", "adam/near"]).ok(), "beside\n");
    assert_eq!(machine.run(&["render", "adam/inner"]).ok(), "inside\n");
    let run = machine.run(&["render", "adam/far"]);
    assert!(run.fails(2).contains("has no prompt `far`"), "{run:?}");
    assert!(
        run.stderr
            .contains("adam.bin` is not passed to the pack: not UTF-8"),
        "{run:?}"
    );
    assert!(
        machine
            .run(&["render", "adam/leak"])
            .fails(2)
            .contains("link points outside the packs folder")
    );
    // The folder itself may be a link that points outside.
    std::fs::remove_dir_all(packs.join("adam")).unwrap();
    std::os::unix::fs::symlink("../secret", packs.join("adam")).unwrap();
    assert!(
        machine
            .run(&["render", "adam/leak"])
            .fails(2)
            .contains("link points outside the packs folder")
    );
    // A plain file name is in the current folder.
    machine.write("eve.wasm", std::fs::read(packs.join("adam.wasm")).unwrap());
    machine.write("eve.toml", "near = 'eve'\n");
    assert_eq!(
        machine.run(&["render", "near", "--pack", "eve.wasm"]).ok(),
        "eve\n"
    );
}

#[test]
fn more_than_32_processors_are_rejected() {
    let machine = Machine::new();
    let many: Vec<&str> = (0..33).flat_map(|_| ["--post", "trim"]).collect();
    let run = machine.run(&[&["render", "x y"][..], &many].concat());
    assert!(run.fails(2).contains("33 processors"), "{run:?}");
}

#[test]
fn an_unwritable_cache_is_only_a_warning() {
    let machine = Machine::without_cache();
    std::fs::create_dir_all(machine.home()).unwrap();
    std::fs::write(machine.home().join("cache"), "in the way").unwrap();
    let run = machine.run(&["render", "x y"]);
    assert_eq!(run.ok(), "x y\n");
    assert!(run.stderr.contains("cannot be kept"), "{run:?}");
}

#[test]
fn a_pack_larger_than_the_limit_is_rejected() {
    let machine = Machine::new();
    let file = std::fs::File::create(machine.write("packs/big.wasm", "")).unwrap();
    file.set_len(65 << 20).unwrap();
    assert!(
        machine
            .run(&["render", "big/x"])
            .fails(3)
            .contains("the limit is 64 MiB")
    );
}

#[test]
fn stock_and_standard_select_their_own_prompt_files() {
    let machine = Machine::new();
    machine.write("p.toml", "here = 'from the file'\n");
    // The stock prompts are available as `stock/…` also with `--prompts`.
    let run = machine.run(&[
        "render",
        "stock/tldr",
        "--prompts",
        "p.toml",
        "--text",
        TEXT,
    ]);
    assert!(run.ok().contains(TEXT));
    let run = machine.run(&["render", "standard/here", "--prompts", "p.toml"]);
    assert_eq!(run.ok(), "from the file\n");
    assert!(
        machine
            .run(&["render", "tldr", "--prompts", "p.toml"])
            .fails(2)
            .contains("`tldr`")
    );
}

#[cfg(unix)]
#[test]
fn a_cache_writable_by_others_is_not_trusted() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::without_cache();
    let render = || machine.run(&["render", "<{{text}}>", "--text", "x"]);
    assert_eq!(render().ok(), "<x>\n");
    let cache = machine.home().join("cache/packs");
    let mode = std::fs::metadata(&cache).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    // An invalid entry, and a folder writable by others, are ignored.
    let paths = std::fs::read_dir(&cache)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let code: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "cwasm"))
        .collect();
    assert_eq!(code.len(), 1);
    for path in code {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path:?}");
        std::fs::write(&path, b"not machine code").unwrap();
    }
    assert_eq!(render().ok(), "<x>\n");
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(render().ok(), "<x>\n");
}

#[test]
fn declared_parameters_and_options_are_checked_and_have_their_defaults() {
    let machine = Machine::new();
    machine.install_pack("hello", &component("hello"));
    machine.install_pack("evil", &component("hostile"));
    machine.write("packs/evil/describe", "declared");
    let unknown = machine.run(&["render", "hello/greet", "-p", "name=Ada", "-p", "nmae=Bo"]);
    unknown.ok();
    let warning = "hello/greet has no parameter `nmae`; did you mean `name`?";
    assert!(unknown.stderr.contains(warning), "{unknown:?}");
    // The pack itself shows what it got.
    let defaults = machine.run(&["render", "evil/shown", "-p", "must=1"]);
    assert_eq!(defaults.ok(), "must=1\nstyle=warm\n");
    let given = machine.run(&["render", "evil/shown", "-p", "style=cold", "-p", "must=1"]);
    assert_eq!(given.ok(), "style=cold\nmust=1\n");
    let any = machine.run(&["render", "evil/any", "-p", "undeclared=1"]);
    any.ok();
    assert!(!any.stderr.contains("no parameter"), "{any:?}");
    let missing = machine.run(&["render", "evil/shown"]);
    let message = "prompt `shown` is missing a parameter: `must`";
    assert!(missing.fails(2).contains(message), "{missing:?}");
    let args = ["render", "evil/shown", "-p", "must=1", "--post"];
    let options = machine.run(&[&args[..], &["evil/options:lnog=1"]].concat());
    options.ok();
    let warning = "evil/options has no option `lnog`; did you mean `long`?";
    assert!(options.stderr.contains(warning), "{options:?}");
    let report = machine
        .run(&[&args[..], &["evil/options", "--json"]].concat())
        .json();
    assert_eq!(report["post"][0]["options"].as_array().unwrap().len(), 0);
    assert_eq!(report["post"][0]["defaults"][0][0], "long");
    // The columns of a table may be unused, and defaults do not change what a job is.
    machine.write("rows.csv", "must,other\n1,x\n");
    let batch = [
        "batch",
        "-P",
        "evil/shown",
        "--engine",
        "embedded",
        "-m",
        "demo",
        "--inputs",
        "rows.csv",
        "-o",
        "out",
        "--dry-run",
    ];
    let planned = machine.run(&batch);
    planned.ok();
    assert!(!planned.stderr.contains("no parameter"), "{planned:?}");
}

#[test]
fn an_unknown_processor_is_named_with_similar_ones() {
    let machine = Machine::new();
    machine.install_pack("hello", &component("hello"));
    machine.install_pack("shout", &component("shout"));
    machine.install_pack("evil", &component("hostile"));
    for (args, message) in [
        (
            &["render", "hello/greet", "-p", "name=Ada", "--post", "shout"][..],
            "did you mean `shout/upper`, `shout/count`?",
        ),
        (
            &["render", "hello/greet", "-p", "name=Ada", "--post", "trmi"],
            "did you mean `trim`?",
        ),
        (
            &["render", "evil/secret-processor"],
            "no processor `nowhere` in pack `evil` or the standard pack",
        ),
        (
            &["render", "tldr", "--text", "x", "--post", "nowhere"],
            "no processor `nowhere` in pack `standard`\n",
        ),
    ] {
        let run = machine.run(args);
        assert!(run.fails(2).contains(message), "{args:?}: {run:?}");
    }
}

#[test]
fn values_and_errors_that_are_not_allowed_are_named() {
    let machine = Machine::new();
    machine.install_pack("evil", &component("hostile"));
    for (prompt, code, message) in [
        (
            "top-k",
            2,
            "invalid value `4294967295` for `top_k`: expected an integer from 0 to 1000000",
        ),
        ("schema", 2, "the prompt's json_schema is not JSON"),
        (
            "wrong-error",
            3,
            "returned the error `unknown-processor`, which resolve must not return",
        ),
    ] {
        let run = machine.run(&["render", &format!("evil/{prompt}")]);
        assert!(run.fails(code).contains(message), "{prompt}: {run:?}");
    }
    for (prompt, warning) in [
        (
            "assistant",
            "the prompt ends with a message of the assistant",
        ),
        ("empty", "the prompt has a message without text"),
    ] {
        let run = machine.run(&["render", &format!("evil/{prompt}")]);
        run.ok();
        assert!(run.stderr.contains(warning), "{prompt}: {run:?}");
    }
}

#[test]
fn a_dry_run_shows_the_jobs_whose_packs_fail() {
    let machine = Machine::new();
    machine.install_pack("evil", &component("hostile"));
    let run = machine.run(&[
        "batch",
        "-P",
        "evil/trap",
        "-P",
        "tldr",
        "--text",
        "x",
        "--engine",
        "embedded",
        "-m",
        "demo",
        "-o",
        "out",
        "--dry-run",
    ]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let failing = run
        .text()
        .lines()
        .find(|line| line.starts_with("evil_trap"));
    let message = "fail: pack `evil`";
    assert!(
        failing.is_some_and(|line| line.contains(message)),
        "{run:?}"
    );
    assert!(
        run.stderr.contains("error: the packs of 1 of 2 jobs fail"),
        "{run:?}"
    );
}

#[test]
fn the_first_named_pack_that_has_the_prompt_resolves_it() {
    let machine = Machine::new();
    let standard = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sandbox/assets/standard.wasm");
    machine.install_pack("shout", &component("shout"));
    machine.install_pack("hello", &component("hello"));
    machine.install_pack("adam", &standard);
    machine.write(
        "packs/adam.toml",
        "tldr = \"Adam's {{text}}\"\nnear = \"Near {{text}}\"\n",
    );
    let render = |args: &[&str]| {
        let args = [&["render", "--text", "x", "--json"], args].concat();
        machine.run(&args)
    };
    for (args, packs) in [
        // A text, and prompts that only the standard pack has: the processors are offered.
        (
            &["{{text}}", "--pack", "shout", "--post", "shout/upper"][..],
            &["standard", "shout"][..],
        ),
        (
            &["tldr", "--pack", "shout", "--post", "shout/upper"],
            &["standard", "shout"],
        ),
        (&["tldr", "--pack", "hello", "--no-post"], &["standard"]),
        (
            &["think,tldr", "--pack", "hello", "--no-post"],
            &["standard"],
        ),
        (
            &[
                "greet", "--pack", "shout", "--pack", "hello", "-p", "name=Ada",
            ],
            &["hello"],
        ),
        (&["tldr", "--pack", "adam"], &["adam"]),
        (&["near,tldr", "--pack", "adam"], &["adam"]),
        (&["tldr,near", "--pack", "adam"], &["adam"]),
    ] {
        let run = render(args);
        let _succeeds = run.ok();
        let report = run.json();
        let used: Vec<&str> = report["packs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pack| pack["name"].as_str().unwrap())
            .collect();
        assert_eq!(used, packs, "{args:?}");
        // The standard pack reports unused parameters itself, also under another name.
        assert!(
            run.stderr.matches("`text`").count() <= 1,
            "{args:?}: {run:?}"
        );
    }
    let unknown = render(&["nowhere", "--pack", "hello"]);
    let message = "pack `hello` has no prompt `nowhere`";
    assert!(unknown.fails(2).contains(message), "{unknown:?}");
    // A pack that cannot be described is not passed over.
    machine.write("packs/adam.toml", "tldr = \n");
    let broken = render(&["tldr", "--pack", "adam"]);
    assert!(broken.fails(2).contains("adam.toml"), "{broken:?}");
}

#[test]
fn a_processor_with_a_plus_is_added_to_those_of_the_prompt() {
    let machine = Machine::new();
    machine.install_pack("shout", &component("shout"));
    machine.write(
        "p.toml",
        "[q]\nprompt = \"Say {{text}}\"\npost = [\"trim\"]\n",
    );
    let render = |posts: &[&str]| {
        let mut args = vec![
            "render",
            "q",
            "--prompts",
            "p.toml",
            "--text",
            "x",
            "--json",
        ];
        for post in posts {
            args.extend(["--post", post]);
        }
        machine.run(&args)
    };
    for (posts, expected) in [
        (&["+shout/upper"][..], &["trim", "upper"][..]),
        (&["+json", "+shout/count"], &["trim", "json", "count"]),
        (&["json"], &["json"]),
    ] {
        let report = render(posts).json();
        let found: Vec<&str> = report["post"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step["processor"].as_str().unwrap())
            .collect();
        assert_eq!(found, expected, "{posts:?}");
    }
    let mixed = render(&["+json", "trim"]);
    assert!(
        mixed.fails(2).contains("give all with `+`, or none"),
        "{mixed:?}"
    );
}

#[test]
fn folders_of_the_config_are_searched_and_packs_see_the_facts_of_render() {
    let machine = Machine::new();
    let pack = std::fs::read(component("hostile")).unwrap();
    std::fs::create_dir(machine.home().join("team")).unwrap();
    std::fs::write(machine.home().join("team/evil.wasm"), pack).unwrap();
    let config = "[defaults]\ndiscover = false\npack_dirs = [\"team\", \"none\"]\n";
    std::fs::write(machine.home().join("config.toml"), config).unwrap();
    let facts = machine.run(&[
        "render",
        "evil/model",
        "--context",
        "8192",
        "--model-fact",
        "id=qwen",
        "--model-fact",
        "vision=true",
    ]);
    for part in [
        "id: \"qwen\"",
        "context-length: Some(8192)",
        "vision",
        "architecture: None",
    ] {
        assert!(facts.ok().contains(part), "{part}: {facts:?}");
    }
    assert!(facts.stderr.contains("none is not a folder"), "{facts:?}");
    let none = machine.run(&["render", "evil/model"]);
    assert_eq!(none.ok().trim_end(), "None");
    assert!(
        machine
            .run(&["pack", "list"])
            .ok()
            .contains("team/evil.wasm")
    );
    let odd = machine.run(&["render", "evil/model", "--model-fact", "x"]);
    assert!(
        odd.fails(2).contains("--model-fact takes KEY=VALUE"),
        "{odd:?}"
    );
}

#[test]
fn a_prompt_file_in_the_packs_folder_is_a_pack() {
    let machine = Machine::new();
    machine.write(
        "packs/adam.toml",
        "[translate]\nprompt = \"Into {{to}}: {{text}}\"\npost = [\"trim\"]\n",
    );
    let args = ["render", "adam/translate", "-p", "to=Dutch", "--text", "x"];
    assert_eq!(machine.run(&args).ok(), "Into Dutch: x\n");
    let by_file = [
        "render",
        "translate",
        "--pack",
        "packs/adam.toml",
        "-p",
        "to=Dutch",
    ];
    let by_file = machine.run(&[&by_file[..], &["--text", "x"]].concat());
    assert_eq!(by_file.ok(), "Into Dutch: x\n");
    // It has its own prompts only, and the processors of the standard pack.
    let report = machine.run(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(report["post"][0]["processor"], "trim");
    let stock = machine.run(&["render", "adam/tldr", "--text", "x"]);
    assert!(
        stock.fails(2).contains("pack `adam` has no prompt `tldr`"),
        "{stock:?}"
    );
    let shown = machine.run(&["pack", "show", "adam"]);
    assert!(shown.ok().contains("\n  adam/translate"), "{shown:?}");
    assert!(
        machine
            .run(&["pack", "list"])
            .ok()
            .contains("packs/adam.toml")
    );
    // An error names the line.
    machine.write("packs/broken.toml", "a = 1\nb = [\n");
    let broken = machine.run(&["render", "broken/a"]);
    assert!(broken.fails(2).contains("packs/broken.toml:"), "{broken:?}");
    // Beside a component it is a file of that pack.
    machine.install_pack("adam", &component("hello"));
    let component = machine.run(&args);
    assert!(
        component
            .fails(2)
            .contains("pack `adam` has no prompt `translate`"),
        "{component:?}"
    );
    assert!(!machine.run(&["pack", "list"]).ok().contains("adam.toml"));
}

#[test]
fn a_changed_pack_in_a_folder_of_the_config_makes_other_jobs() {
    let machine = Machine::new();
    let team = machine.home().join("team");
    std::fs::create_dir(&team).unwrap();
    let config = "[defaults]\ndiscover = false\npack_dirs = \"team\"\n";
    std::fs::write(machine.home().join("config.toml"), config).unwrap();
    let batch = [
        "batch",
        "-P",
        "adam/short",
        "--engine",
        "embedded",
        "-m",
        "demo",
        "--text",
        TEXT,
        "-o",
        "out",
    ];
    for (number, prompt) in ["tldr = 1", "again"].iter().enumerate() {
        let file = format!("[short]\nprompt = \"{prompt}: {{{{text}}}}\"\n");
        std::fs::write(team.join("adam.toml"), file).unwrap();
        let run = machine.run(&batch);
        run.ok();
        let is_changed = run.stderr.contains("has changed since the result was made");
        assert_eq!(is_changed, number == 1, "{run:?}");
    }
}

#[test]
fn the_same_warning_of_many_prompts_is_shown_once() {
    let machine = Machine::new();
    let mut plan = "engine = \"embedded\"\nmodels = \"demo\"\nout = \"out\"\n".to_owned();
    for number in 0..3 {
        plan += &format!(
            "[[prompt]]\nname = \"tldr\"\nlabel = \"p{number}\"\nparams = {{ n = \"1\" }}\n"
        );
    }
    plan += "[[input]]\ntext = \"x\"\n";
    machine.write("plan.toml", plan);
    let run = machine.run(&["batch", "plan.toml", "--dry-run"]);
    run.ok();
    let warning = "warning: p0 and 2 more: the parameter `n` is not used by the prompt\n";
    assert_eq!(run.stderr, warning);
}
