use std::{fmt::Write as _, fs, path::Path, sync::Arc};

use deepmarket_dataset::{Holdout, Input, Options, Task};
use deepmarket_job::{Features, Targets};
use parquet::{
    basic::{Compression, Repetition, Type as Physical},
    data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::types::Type,
};
use proptest::prelude::*;

use crate::support::{Done, floats, folder, imported, refused, try_import};

fn options(target: &str, task: Option<Task>) -> Options {
    Options { target: Some(target.into()), task, ..Options::new("table") }
}

/// A table of so many rows: two numbers, a class and a value.
fn csv(rows: u32, delimiter: char) -> String {
    let mut text = "a;b;kind;value\n".replace(';', &delimiter.to_string());
    for row in 0..rows {
        let kind = ["cat", "dog", "owl"][row as usize * 3 / rows as usize];
        let line = format!("{row};{};{kind};{}\n", 1e9 + f64::from(row), f64::from(row) * 0.5);
        text.write_str(&line.replace(';', &delimiter.to_string())).unwrap();
    }
    text
}

#[test]
fn a_table_becomes_standardised_features_and_classes_in_two_splits() {
    let dir = folder(&[("pets.csv", csv(600, ',').as_bytes())]);
    let done = imported(dir.path(), &Options { drop: vec!["value".into()], ..options("kind", None) });
    let manifest = &done.import.manifest;
    assert_eq!((manifest.shape.as_slice(), manifest.x, &manifest.y), (&[2][..], Features::F32, &Targets::Class { classes: 3 }));
    assert_eq!(done.import.classes, ["cat", "dog", "owl"]);
    assert_eq!(done.import.features, ["a", "b"]);
    assert_eq!(done.samples(), (480, 120), "a fifth is for testing");
    assert_eq!(manifest.splits[0].shards.len(), 60);
    // The file is sorted by class, and each shard has all three.
    for (_, bytes) in &done.shards[..60] {
        let mut classes = safetensors::SafeTensors::deserialize(bytes).unwrap().tensor("y").unwrap().data().to_vec();
        classes.dedup();
        assert_eq!(classes, [0, 1, 2]);
    }
    let train: Vec<Vec<f32>> = done.split(0).iter().map(|(x, _)| floats(x)).collect();
    for column in 0..2 {
        let mean = train.iter().map(|row| f64::from(row[column])).sum::<f64>() / 480.0;
        let square = train.iter().map(|row| f64::from(row[column]).powi(2)).sum::<f64>() / 480.0;
        assert!(mean.abs() < 1e-5 && (square - 1.0).abs() < 1e-5, "{mean} {square}");
    }
}

#[test]
fn raw_features_and_values_stay_as_they_are() {
    let dir = folder(&[("data.tsv", csv(50, '\t').as_bytes())]);
    let raw = Options { raw: true, drop: vec!["kind".into(), "b".into()], ..options("value", Some(Task::Regression)) };
    let done = imported(dir.path(), &raw);
    assert_eq!(done.import.manifest.y, Targets::Values { shape: vec![1] });
    let mut rows: Vec<(f32, f32)> = done.all().iter().map(|(x, y)| (floats(x)[0], floats(y)[0])).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert_eq!(rows, (0..50).map(|row| (row as f32, row as f32 * 0.5)).collect::<Vec<_>>());
}

#[test]
fn categories_become_features_of_zero_and_one_where_asked() {
    let dir = folder(&[("data.csv", b"colour,size,y\nred,1,10\nblue,2,20\nred,3,30\n")]);
    let one_hot = Options { one_hot: vec!["colour".into()], raw: true, ..options("y", Some(Task::Regression)) };
    let done = imported(dir.path(), &one_hot);
    assert_eq!(done.import.features, ["colour=blue", "colour=red", "size"]);
    let rows: Vec<Vec<f32>> = done.all().iter().map(|(x, y)| [floats(x), floats(y)].concat()).collect();
    for expected in [[0.0, 1.0, 1.0, 10.0], [1.0, 0.0, 2.0, 20.0], [0.0, 1.0, 3.0, 30.0]] {
        assert!(rows.iter().any(|row| *row == expected), "{rows:?}");
    }
    refused(
        dir.path(),
        &options("y", Some(Task::Regression)),
        3034,
        &["data.csv, line 2, column 'colour'", "'red'", "--one-hot colour"],
    );
}

#[test]
fn splits_by_name_or_by_two_sources_are_kept() {
    let (train, test) = (csv(30, ';'), csv(9, ';'));
    let dir = folder(&[("train.csv", train.as_bytes()), ("test.csv", test.as_bytes())]);
    let by_name = imported(dir.path(), &options("kind", None));
    assert_eq!(by_name.samples(), (30, 9));
    let input = Input::Two { train: dir.path().join("train.csv"), test: dir.path().join("test.csv") };
    let by_source = try_import(&input, &options("kind", None)).unwrap();
    assert_eq!(by_source.shards, by_name.shards);
}

#[test]
fn whole_numbers_as_classes_keep_their_order() {
    let mut text = "x,label\n".to_owned();
    for row in 0..40 {
        writeln!(text, "{row},{}", [10, 2, 33, 4][row % 4]).unwrap();
    }
    let dir = folder(&[("a.csv", text.as_bytes())]);
    assert_eq!(imported(dir.path(), &options("label", Some(Task::Classification))).import.classes, ["2", "4", "10", "33"]);
    refused(dir.path(), &options("label", None), 3035, &["'label' holds numbers", "--task"]);
}

#[test]
fn a_bad_table_is_refused_with_the_line_and_what_to_do() {
    let regression = || options("y", Some(Task::Regression));
    for (content, options, code, says) in [
        ("a,y\n1,2\n3\n", regression(), 3034, ["line 3", "1 values, and there are 2 columns"]),
        ("a,y\n1,2\n,4\n", regression(), 3034, ["line 3, column 'a'", "it is empty"]),
        ("a,y\n1,2\n3,\n", regression(), 3034, ["line 3, column 'y'", "it is empty"]),
        ("a,y\n1,2\nnan,4\n", regression(), 3034, ["line 3, column 'a'", "isn't a number"]),
        ("a,y\n1,2\n1e39,4\n", regression(), 3034, ["line 3, column 'a'", "isn't a number"]),
        ("a,y\n1,2\n3,many\n", regression(), 3035, ["column 'y' holds texts", "--task"]),
        ("a,y\n1,2\n\u{1},4\n", regression(), 3034, ["line 3", "isn't a number"]),
        ("a,y\n1,2\n", regression(), 3035, ["one row", "bring more"]),
        ("a,y\n", regression(), 3035, ["no samples", "--train"]),
        ("a,a\n1,2\n", regression(), 3031, ["two columns", "'a'"]),
        ("1,2\n3,4\n", regression(), 3034, ["line 1", "--no-header"]),
        ("a,b\n1,2\n3,4\n", regression(), 3035, ["no column 'y'", "'a', 'b'"]),
        ("a,b\n1,2\n3,4\n", Options::new("x"), 3035, ["--target", "'a', 'b'"]),
        ("a,y\n1,2\n3,2\n", options("y", Some(Task::Classification)), 3035, ["1 different values", "--task"]),
        ("y\n1\n", regression(), 3031, ["1 columns", "a table needs 2"]),
        ("", regression(), 3031, ["0 columns", "a table needs 2"]),
    ] {
        let dir = folder(&[("t.csv", content.as_bytes())]);
        refused(dir.path(), &options, code, &says);
    }
    let dir = folder(&[("t.csv", b"a,y\n1,2\n\xff,4\n")]);
    refused(dir.path(), &regression(), 3034, &["line 3, column 'a'", "UTF-8"]);
    let dir = folder(&[("train.csv", b"a,y\n1,2\n"), ("test.csv", b"b,y\n1,2\n")]);
    refused(dir.path(), &regression(), 3032, &["test.csv", "'b', 'y'"]);
}

#[test]
fn a_quote_that_is_never_closed_doesnt_fill_the_memory() {
    let mut text = b"a,y\n\"".to_vec();
    text.resize(20 << 20, b'x');
    let dir = folder(&[("t.csv", &text)]);
    refused(dir.path(), &options("y", Some(Task::Regression)), 3030, &["t.csv", "16 MiB", "quote"]);
}

#[test]
fn a_table_without_names_has_numbers_for_them() {
    let dir = folder(&[("iris.data", b"5.1,3.5,setosa\n6.0,2.2,virginica\n")]);
    let done = imported(dir.path(), &Options { no_header: true, ..options("3", None) });
    assert_eq!(
        (done.import.classes, done.import.features),
        (vec!["setosa".into(), "virginica".into()], vec!["1".into(), "2".into()])
    );
}

/// The table of `csv(rows, …)` as Parquet.
fn parquet(path: &Path, rows: u32, compression: Compression) {
    let column = |name: &str, kind: Physical| {
        let column = Type::primitive_type_builder(name, kind).with_repetition(Repetition::REQUIRED);
        let column = if kind == Physical::BYTE_ARRAY {
            column.with_logical_type(Some(parquet::basic::LogicalType::String))
        } else {
            column
        };
        Arc::new(column.build().unwrap())
    };
    let fields = vec![
        column("a", Physical::INT64),
        column("b", Physical::DOUBLE),
        column("kind", Physical::BYTE_ARRAY),
        column("value", Physical::DOUBLE),
    ];
    let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build().unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, properties).unwrap();
    let rows: Vec<u32> = (0..rows).collect();
    let total = rows.len();
    for part in rows.chunks(100) {
        let mut group = writer.next_row_group().unwrap();
        let longs: Vec<i64> = part.iter().map(|row| i64::from(*row)).collect();
        let large: Vec<f64> = part.iter().map(|row| 1e9 + f64::from(*row)).collect();
        let kinds: Vec<ByteArray> = part.iter().map(|row| ["cat", "dog", "owl"][*row as usize * 3 / total].into()).collect();
        let values: Vec<f64> = part.iter().map(|row| f64::from(*row) * 0.5).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&longs, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&large, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&kinds, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn parquet_gives_the_same_shards_as_csv_whatever_its_compression() {
    let dir = folder(&[("t.csv", csv(300, ',').as_bytes())]);
    let expected = imported(&dir.path().join("t.csv"), &options("kind", None));
    let compressions = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::LZ4_RAW,
        Compression::ZSTD(Default::default()),
        Compression::GZIP(Default::default()),
    ];
    for compression in compressions {
        let path = dir.path().join("t.parquet");
        parquet(&path, 300, compression);
        assert!(imported(&path, &options("kind", None)).shards == expected.shards, "{compression}");
    }
    let whole = fs::read(dir.path().join("t.parquet")).unwrap();
    fs::write(dir.path().join("t.parquet"), &whole[..whole.len() / 2]).unwrap();
    refused(&dir.path().join("t.parquet"), &options("kind", None), 3031, &["t.parquet", "Parquet"]);
    refused(dir.path(), &options("kind", None), 3035, &["several formats: csv, parquet", "--format"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn each_row_is_in_one_split_whatever_rows_part_and_seed(rows in 2_u32..300, permille in 1_u32..1000, seed: u64) {
        let dir = folder(&[("t.csv", csv(rows, ',').as_bytes())]);
        let options = Options {
            raw: true, drop: vec!["kind".into(), "value".into()], holdout: Holdout { permille }, seed,
            ..options("a", Some(Task::Regression))
        };
        let Done { import, .. } = imported(dir.path(), &options);
        let done = imported(dir.path(), &options);
        let (train, test) = done.samples();
        prop_assert_eq!(train + test, u64::from(rows));
        let wanted = f64::from(rows) * f64::from(permille) / 1000.0;
        prop_assert!((test as f64 - wanted).abs() <= 1.0, "{} of {}", test, rows);
        let mut seen: Vec<f32> = done.all().iter().map(|(_, y)| floats(y)[0]).collect();
        seen.sort_by(f32::total_cmp);
        prop_assert_eq!(seen, (0..rows).map(|row| row as f32).collect::<Vec<_>>());
        let most = import.manifest.splits.iter().flat_map(|split| &split.shards).map(|shard| shard.samples).max();
        prop_assert!(most <= Some(1000));
    }
}
