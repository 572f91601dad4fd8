//! Images that are sent with prompts: by flags, plans, tables and packs, in the form of each
//! dialect.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use crate::guests::component;
use crate::servers::scripted::{
    ScriptedServer, json_response, not_found, response, sse_head, stream_end, text_chunk,
};
use crate::servers::studio::{FakeStudio, Model, Setup};
use crate::support::{Machine, Run};

/// A server with a model `m` that takes images, and the dialect in which it gets them.
enum VisionServer {
    OpenAi(ScriptedServer),
    Ollama(ScriptedServer),
    LmStudio(FakeStudio),
}

impl VisionServer {
    fn all() -> [Self; 3] {
        let openai = ScriptedServer::start(|request, _| match request.path.as_str() {
            "/v1/models" => json_response(json!({"object": "list", "data": [{"id": "m"}]})),
            "/v1/chat/completions" => vec![sse_head(), text_chunk("Seen."), stream_end("stop")],
            _ => not_found(),
        });
        let studio = FakeStudio::start(Setup {
            models: vec![Model {
                loaded: vec![("m".to_owned(), 8192)],
                vision: true,
                ..Model::llm("m", 8192)
            }],
            ..Setup::default()
        });
        [
            Self::OpenAi(openai),
            Self::Ollama(ollama(&["vision"])),
            Self::LmStudio(studio),
        ]
    }

    fn url(&self) -> String {
        match self {
            Self::OpenAi(server) | Self::Ollama(server) => server.url(),
            Self::LmStudio(studio) => studio.url(),
        }
    }

    /// Returns the images of each request since the last call, with their messages.
    fn images(&self, requests_before: &mut usize) -> Vec<Vec<Image>> {
        let chats: Vec<Value> = match self {
            Self::OpenAi(server) | Self::Ollama(server) => server
                .requests()
                .into_iter()
                .filter(|request| request.path.contains("/chat"))
                .map(|request| request.body)
                .collect(),
            Self::LmStudio(studio) => studio
                .requests()
                .into_iter()
                .filter(|request| request.path == "/api/v1/chat")
                .map(|request| request.body)
                .collect(),
        };
        let new = chats.iter().skip(*requests_before);
        let images = new.map(|body| self.images_of_body(body)).collect();
        *requests_before = chats.len();
        images
    }

    fn images_of_body(&self, body: &Value) -> Vec<Image> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut images = Vec::new();
        match self {
            Self::OpenAi(_) => {
                for (at, message) in list(&body["messages"]).iter().enumerate() {
                    for part in list(&message["content"]) {
                        if part["type"] == "image_url" {
                            images.push(Image::of_url(at, &part["image_url"]["url"]));
                        }
                    }
                }
            }
            Self::Ollama(_) => {
                for (at, message) in list(&body["messages"]).iter().enumerate() {
                    for image in list(&message["images"]) {
                        images.push(Image::of_base64(at, image.as_str().unwrap()));
                    }
                }
            }
            Self::LmStudio(_) => {
                for item in list(&body["input"]) {
                    if item["type"] == "image" {
                        images.push(Image::of_url(0, &item["data_url"]));
                    }
                }
            }
        }
        images
    }
}

/// An Ollama whose model has some capabilities besides `completion`.
fn ollama(capabilities: &[&str]) -> ScriptedServer {
    let mut all = vec!["completion"];
    all.extend(capabilities);
    let model = json!({"name": "m", "model": "m", "capabilities": all});
    let show = json!({"capabilities": all, "model_info": {}});
    ScriptedServer::start(move |request, _| match request.path.as_str() {
        "/" => response(200, "text/plain", "Ollama is running"),
        "/api/version" => json_response(json!({"version": "0.12.0"})),
        "/api/tags" => json_response(json!({"models": [model]})),
        "/api/ps" => json_response(json!({"models": [{"model": "m", "context_length": 32_768}]})),
        "/api/show" => json_response(show.clone()),
        "/api/chat" => {
            let line = json!({"model": "m", "message": {"role": "assistant", "content": "Seen."},
                "done": true, "done_reason": "stop"});
            response(200, "application/x-ndjson", format!("{line}\n"))
        }
        _ => response(404, "text/plain", "404 page not found"),
    })
}

/// An image as a server received it.
#[derive(Debug, PartialEq)]
struct Image {
    /// The index of its message.
    message: usize,
    /// The media type, where the dialect has it.
    media_type: Option<String>,
    content: Vec<u8>,
}

impl Image {
    fn of_url(message: usize, url: &Value) -> Self {
        let (media_type, base64) = url.as_str().unwrap().split_once(";base64,").unwrap();
        Self {
            media_type: Some(media_type.strip_prefix("data:").unwrap().to_owned()),
            ..Self::of_base64(message, base64)
        }
    }

    fn of_base64(message: usize, base64: &str) -> Self {
        Self {
            message,
            media_type: None,
            content: BASE64_STANDARD.decode(base64).unwrap(),
        }
    }
}

/// The pictures of all tests: names, media types and contents with every byte.
fn pictures() -> [(&'static str, &'static str, Vec<u8>); 3] {
    let bytes: Vec<u8> = (0..=255).collect();
    let with = |signature: &[u8]| [signature, &bytes].concat();
    [
        ("a.png", "image/png", with(b"\x89PNG\r\n\x1a\n")),
        // The content decides, not the name.
        ("b.png", "image/jpeg", with(b"\xff\xd8\xff\xe0")),
        ("c.webp", "image/webp", with(b"RIFF\x08\x01\0\0WEBP")),
    ]
}

fn machine() -> Machine {
    let machine = Machine::new();
    for (name, _, content) in pictures() {
        machine.write(&format!("pictures/{name}"), content);
    }
    machine.install_pack("gallery", &component("hostile"));
    machine
}

/// Returns the message and the index of each picture, in order.
#[track_caller]
fn places(images: &[Image]) -> Vec<(usize, usize)> {
    let all = pictures();
    let place = |image: &Image| {
        let at = all.iter().position(|known| known.2 == image.content);
        let at = at.unwrap_or_else(|| panic!("other bytes: {image:?}"));
        if let Some(media_type) = &image.media_type {
            assert_eq!(media_type, all[at].1);
        }
        (image.message, at)
    };
    images.iter().map(place).collect()
}

/// Asserts that one request has these pictures in these messages.
#[track_caller]
fn assert_images(images: &[Image], expected: &[(usize, usize)], what: &str) {
    assert_eq!(places(images), expected, "{what}");
}

const ALL: [&str; 6] = [
    "--attach",
    "pictures/a.png",
    "--attach",
    "pictures/b.png",
    "--attach",
    "pictures/c.webp",
];

/// Runs `infer`. Setting min-p selects LM Studio's native chat.
fn infer(machine: &Machine, url: &str, prompt: &str, more: &[&str]) -> Run {
    let mut args = vec!["infer", prompt, "--engine", url, "--min-p", "0.1"];
    args.extend(more);
    machine.run(&args)
}

#[test]
fn infer_a_plan_and_a_pack_send_the_same_bytes_in_every_dialect() {
    let machine = machine();
    for double in VisionServer::all() {
        let (url, mut before) = (double.url(), 0);
        infer(&machine, &url, "Describe it.", &ALL).ok();
        let images = double.images(&mut before);
        assert_eq!(images.len(), 1);
        assert_images(&images[0], &[(0, 0), (0, 1), (0, 2)], &url);

        // The pack places them in reverse order.
        infer(&machine, &url, "gallery/attachments", &ALL).ok();
        let images = double.images(&mut before);
        assert_images(&images[0], &[(0, 2), (0, 1), (0, 0)], &url);

        let plan = format!(
            "engine = '{url}'\nmodels = 'm'\nmin_p = 0.1\nout = 'out-{}'\n\
             [[prompt]]\nname = 'Describe it.'\n[[input]]\nattach = '*.png'\n",
            url.rsplit(':').next().unwrap()
        );
        machine.write("pictures/plan.toml", plan);
        machine
            .run(&["batch", "pictures/plan.toml", "-j", "1"])
            .ok();
        let images = double.images(&mut before);
        assert_eq!(images.len(), 2, "one job for each picture");
        assert_images(&images[0], &[(0, 0)], &url);
        assert_images(&images[1], &[(0, 1)], &url);
    }
}

#[test]
fn a_pack_places_images_in_messages_and_the_others_go_to_the_last() {
    let machine = machine();
    let [openai, ollama, _] = VisionServer::all();
    for double in [openai, ollama] {
        infer(&machine, &double.url(), "gallery/conversation", &ALL).ok();
        let images = double.images(&mut 0);
        assert_images(&images[0], &[(0, 0), (2, 1), (2, 2)], &double.url());
    }
}

#[test]
fn inputs_of_a_batch_have_images_by_flag_plan_table_and_pattern() {
    let machine = machine();
    let [double, ..] = VisionServer::all();
    let (url, mut before) = (double.url(), 0);
    machine.write(
        "pictures/rows.csv",
        "id,attach,style\none,a.png,plain\ntwo,\"[\"\"b.png\"\", \"\"c.webp\"\"]\",rich\nnone,,x\n",
    );
    machine.write(
        "pictures/rows.jsonl",
        "{\"attach\": [\"c.webp\"], \"style\": \"new\"}\n",
    );
    let prompt = "-P=Describe it in {{style}} style.";
    let plain = "-P=Describe it.";
    let text = "[[input]]\ntext = 'x'\nattach = ['pictures/*.png', 'pictures/c.webp']\n";
    machine.write("text.toml", text);
    for (args, expected) in [
        (
            vec![prompt, "--inputs", "pictures/rows.csv"],
            vec![vec![0], vec![1, 2], vec![]],
        ),
        (
            vec![
                prompt,
                "--inputs",
                "pictures/rows.csv",
                "--attach",
                "pictures/c.webp",
            ],
            vec![vec![2, 0], vec![2, 1, 2], vec![2]],
        ),
        (
            vec![prompt, "--inputs", "pictures/rows.jsonl"],
            vec![vec![2]],
        ),
        (
            vec![plain, "--inputs", "pictures/*.png", "pictures/c.webp"],
            vec![vec![0], vec![1], vec![2]],
        ),
        (vec!["text.toml", "-P={{text}}"], vec![vec![0, 1, 2]]),
    ] {
        let out = format!("out-{before}");
        let mut all = vec!["batch", "--engine", &url, "-m", "m", "-j", "1", "-o", &out];
        all.splice(1..1, args.iter().copied());
        machine.run(&all).ok();
        let images = double.images(&mut before);
        // A batch runs its jobs in the order of their lengths.
        let mut actual: Vec<_> = images.iter().map(|images| places(images)).collect();
        let mut expected: Vec<Vec<(usize, usize)>> = expected
            .into_iter()
            .map(|all| all.into_iter().map(|at| (0, at)).collect())
            .collect();
        actual.sort();
        expected.sort();
        assert_eq!(actual, expected, "{args:?}");
    }
}

#[test]
fn a_changed_image_makes_another_job() {
    let machine = machine();
    let [double, ..] = VisionServer::all();
    let (url, mut before) = (double.url(), 0);
    let args = [
        "batch",
        "-P",
        "Describe it.",
        "--engine",
        &url,
        "-m",
        "m",
        "-o",
        "out",
        "--changed",
        "rerun",
        "--inputs",
        "pictures/*.png",
    ];
    machine.run(&args).ok();
    assert_eq!(double.images(&mut before).len(), 2);
    machine.run(&args).ok();
    assert_eq!(double.images(&mut before).len(), 0, "nothing changed");
    machine.write("pictures/b.png", &pictures()[2].2);
    machine.run(&args).ok();
    let images = double.images(&mut before);
    assert_eq!(images.len(), 1);
    assert_images(&images[0], &[(0, 2)], "the changed image");
    // The plan is kept in the folder with absolute paths.
    std::fs::remove_file(machine.work().join("out/Describe it.--a.txt")).ok();
    let retry = machine.run(&["batch", "retry", "out"]);
    assert_eq!(retry.code, Some(0), "{retry:?}");
}

#[test]
fn images_that_cannot_be_sent_are_errors_before_the_model_is_asked() {
    let machine = machine();
    machine.write("text.png", "not an image");
    let [double, ..] = VisionServer::all();
    let blind = ollama(&[]);
    let url = double.url();
    let attach = ["--attach", "pictures/a.png"];
    let with = |more: &[&'static str]| [&attach[..], more].concat();
    for (engine, prompt, args, code, message) in [
        (
            url.as_str(),
            "Hi there",
            vec!["--attach", "text.png"],
            2,
            "`text.png` is not a PNG",
        ),
        (
            &url,
            "Hi there",
            vec!["--attach", "none.png"],
            2,
            "none.png",
        ),
        (
            &url,
            "Hi there",
            vec!["--attach", "pictures"],
            2,
            "is a folder",
        ),
        (
            &url,
            "Hi there",
            with(&["--raw"]),
            2,
            "without attachments: `a.png`",
        ),
        (
            &url,
            "gallery/missing-attachment",
            with(&[]),
            2,
            "places the attachment `none.png`, which was not given",
        ),
        (&blind.url(), "Hi there", with(&[]), 5, "`m` has no vision"),
        ("embedded", "Hi there", with(&[]), 5, "has no vision"),
    ] {
        let run = infer(&machine, engine, prompt, &args);
        let stderr = run.fails(code);
        assert!(stderr.contains(message), "{message}: {stderr}");
    }
    assert_eq!(double.images(&mut 0).len(), 0);
    assert!(
        !blind
            .requests()
            .iter()
            .any(|request| request.path == "/api/chat")
    );
}

#[test]
fn models_without_vision_are_left_out_of_patterns() {
    let machine = machine();
    let model = |key: &str, vision| Model {
        loaded: vec![(key.to_owned(), 8192)],
        vision,
        ..Model::llm(key, 8192)
    };
    let studio = FakeStudio::start(Setup {
        models: vec![model("blind", false), model("sighted", true)],
        ..Setup::default()
    });
    let url = studio.url();
    let batch = |models: &str, out: &str| {
        machine.run(&[
            "batch",
            "-P",
            "Describe it.",
            "--engine",
            &url,
            "-m",
            models,
            "-o",
            out,
            "--inputs",
            "pictures/a.png",
        ])
    };
    let run = batch("all", "all");
    run.ok();
    assert!(
        run.stderr
            .contains("left out 1 job with images for models that take none: `blind`"),
        "{run:?}"
    );
    let asked = studio.requests().into_iter();
    let asked = asked.filter(|request| request.path.contains("chat"));
    let models: Vec<Value> = asked.map(|request| request.body["model"].clone()).collect();
    assert_eq!(models, ["sighted"]);
    for models in ["blind", "bl*"] {
        let run = batch(models, "blind");
        let stderr = run.fails(5);
        assert!(
            stderr.contains("for models that take none: `blind`"),
            "{stderr}"
        );
    }
    // The plan of the folder names all its models.
    machine.run(&["batch", "retry", "all"]).ok();
    // A prompt that names the model.
    machine.write(
        "named.toml",
        "[[prompt]]\nname = 'Describe it.'\nmodels = 'blind'\n[[prompt]]\nname = 'Name it.'\n",
    );
    let run = machine.run(&[
        "batch",
        "named.toml",
        "--engine",
        &url,
        "-m",
        "all",
        "-o",
        "named",
        "--inputs",
        "pictures/a.png",
    ]);
    assert!(run.fails(5).contains("`blind`"));
}

#[test]
fn inputs_with_the_same_text_and_other_images_are_other_inputs() {
    let machine = machine();
    let [server, ..] = VisionServer::all();
    let url = server.url();
    machine.write("x.md", "Look.");
    let input = |image: &str| format!("[[input]]\nfile = 'x.md'\nattach = 'pictures/{image}'\n");
    machine.write("same.toml", input("a.png") + &input("b.png"));
    let args = [
        "batch",
        "same.toml",
        "-P",
        "{{text}}",
        "--engine",
        &url,
        "-m",
        "m",
        "-o",
        "o",
    ];
    let run = machine.run(&args);
    let stderr = run.fails(2);
    assert!(stderr.contains("give each a distinct `name`"), "{stderr}");
    machine.write(
        "pairs.toml",
        "[[input]]\nname = 'one'\nattach = ['pictures/a.png', 'pictures/b.png']\n\
         [[input]]\nname = 'two'\nattach = ['pictures/a.png', 'pictures/c.webp']\n",
    );
    let args = [
        "batch",
        "pairs.toml",
        "-P",
        "Compare them.",
        "--engine",
        &url,
        "-m",
        "m",
        "-o",
        "o",
    ];
    machine.run(&args).ok();
    let mut images: Vec<_> = server
        .images(&mut 0)
        .iter()
        .map(|all| places(all))
        .collect();
    images.sort();
    assert_eq!(images, [vec![(0, 0), (0, 1)], vec![(0, 0), (0, 2)]]);
}

#[test]
fn more_images_need_another_context() {
    let machine = machine();
    let studio = FakeStudio::start(Setup {
        models: vec![Model {
            vision: true,
            ..Model::llm("m", 65_536)
        }],
        ..Setup::default()
    });
    let url = studio.url();
    let mut args = vec![
        "batch",
        "-P",
        "Describe it.",
        "--engine",
        &url,
        "-m",
        "m",
        "-o",
        "out",
        "--max-tokens",
        "100",
        "--changed",
        "rerun",
    ];
    let context = |run: &Run| {
        let (_, after) = run.stderr.split_once("loading m, context ").unwrap();
        after
            .split_whitespace()
            .next()
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };
    let without = context(&machine.run(&args));
    args.extend(ALL);
    let with = context(&machine.run(&args));
    assert!(with >= without + 3 * 1024, "{without} {with}");
}

#[test]
fn a_flag_adds_to_the_images_of_prompts_and_plans() {
    let machine = machine();
    let [server, ..] = VisionServer::all();
    let url = server.url();
    let plan = "attach = 'pictures/b.png'\n[[prompt]]\nname = 'First one.'\n\
                [[prompt]]\nname = 'Second one.'\nattach = 'pictures/c.webp'\n";
    machine.write("plan.toml", plan);
    let args = [
        "batch",
        "plan.toml",
        "--engine",
        &url,
        "-m",
        "m",
        "-o",
        "out",
        "--attach",
        "pictures/a.png",
    ];
    machine.run(&args).ok();
    let mut images: Vec<_> = server
        .images(&mut 0)
        .iter()
        .map(|all| places(all))
        .collect();
    images.sort();
    assert_eq!(images, [vec![(0, 1), (0, 0)], vec![(0, 2), (0, 0)]]);
    // The printed plan sends the same.
    let printed = machine.run(&[&args[..], &["--print-plan"]].concat());
    machine.write("printed.toml", printed.ok());
    let mut before = 2;
    machine.run(&["batch", "printed.toml", "-o", "again"]).ok();
    let mut again: Vec<_> = server
        .images(&mut before)
        .iter()
        .map(|all| places(all))
        .collect();
    again.sort();
    assert_eq!(again, images);
}

#[test]
fn odd_values_of_the_column_are_errors_with_their_line() {
    let machine = machine();
    for (name, row, message) in [
        (
            "r.jsonl",
            r#"{"attach": ["a.png", 5]}"#,
            "expected a path or an array of paths",
        ),
        (
            "r.jsonl",
            r#"{"attach": {"a": 1}}"#,
            "expected a path or an array of paths",
        ),
        (
            "r.jsonl",
            r#"{"attach": [""]}"#,
            "expected a path or an array of paths",
        ),
        ("r.jsonl", r#"{"attach": 5}"#, "cannot read attachment"),
        ("r.jsonl", r#"{"attach": "none.png"}"#, "none.png"),
        (
            "r.csv",
            "attach\n['a.png']\n",
            "expected a path or an array of paths",
        ),
    ] {
        machine.write(&format!("pictures/{name}"), row);
        let inputs = format!("pictures/{name}");
        let run = machine.run(&[
            "batch",
            "-P",
            "Describe it.",
            "--engine",
            "embedded",
            "-o",
            "o",
            "--inputs",
            &inputs,
        ]);
        let stderr = run.fails(2);
        assert!(stderr.contains(message), "{row}: {stderr}");
        assert!(stderr.contains(&format!("{name}:")), "{row}: {stderr}");
    }
    machine.write("pictures/r.csv", "id,attach\n1, a.png \n");
    let [server, ..] = VisionServer::all();
    let url = server.url();
    let args = [
        "batch",
        "-P",
        "Describe it.",
        "--engine",
        &url,
        "-o",
        "o",
        "--inputs",
        "pictures/r.csv",
    ];
    machine.run(&args).ok();
    assert_images(&server.images(&mut 0)[0], &[(0, 0)], "spaces");
}

#[test]
fn an_image_that_is_read_as_a_text_has_a_hint() {
    let machine = machine();
    machine.write("x.gif", b"GIF89a\xff");
    for (args, hint) in [
        (
            vec!["infer", "tldr", "--text-file", "pictures/a.png"],
            "sent with --attach",
        ),
        (
            vec!["batch", "-P", "tldr", "-o", "o", "--inputs", "x.gif"],
            "convert the image to PNG",
        ),
        (
            vec![
                "batch",
                "-P",
                "tldr",
                "-o",
                "o",
                "--text-file",
                "pictures/a.png",
            ],
            "--inputs",
        ),
        (
            vec!["infer", "Hi there", "--attach", "*.png"],
            "take patterns",
        ),
    ] {
        let mut all = args.clone();
        all.extend(["--engine", "embedded"]);
        let run = machine.run(&all);
        assert!(run.fails(2).contains(hint), "{args:?}: {run:?}");
    }
}

#[test]
fn the_request_that_is_shown_has_the_names_and_sizes_of_images() {
    let machine = machine();
    let [double, ..] = VisionServer::all();
    let args = [
        "--attach",
        "pictures/a.png",
        "--attach",
        "pictures/a.png",
        "--show-request",
    ];
    let run = infer(&machine, &double.url(), "Describe it.", &args);
    run.ok();
    for line in [
        "image `a.png` (image/png, 264 bytes)",
        "image `a-2.png` (image/png, 264 bytes)",
    ] {
        assert!(run.stderr.contains(line), "{}", run.stderr);
    }
    let run = machine.run(&[
        "render",
        "Describe it.",
        "--attach",
        "pictures/b.png",
        "--json",
    ]);
    assert_eq!(
        run.json()["input"]["chat"][0]["attachments"],
        json!(["b.png"])
    );
}

#[test]
fn a_pipe_is_read_once() {
    let machine = machine();
    let [double, ..] = VisionServer::all();
    let args = [
        "infer",
        "Describe it.",
        "--engine",
        &double.url(),
        "--attach",
        "/dev/stdin",
    ];
    let run = machine.run_with_stdin(&args, &pictures()[0].2);
    assert_eq!(run.ok(), "Seen.\n");
    assert_images(&double.images(&mut 0)[0], &[(0, 0)], "a pipe");
}
