//! Takes tensors out of a file, each of exactly the size that the metadata
//! promise, and notices those that nobody took.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor, ggml_file};
use candle_core::{Device, Tensor};

use super::super::Error;
use super::super::gguf::Header;
use super::super::tensor_kind::TensorKind;

/// Models up to this size are computed with plain numbers, whatever they are
/// stored as: 16 MiB.
///
/// candle hands every product of a quantised matrix to all cores and waits for
/// them in a loop that does not sleep. For a small model that costs more than
/// the work, and when another program wants the cores as well it is ruinous:
/// 16 tokens a second instead of 2,000 were measured.
const PLAIN_PARAMETERS_MAX: u64 = 4 << 20;

/// A file that can be read from anywhere.
pub(in super::super) trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// The tensors of a file.
pub(super) struct Weights<'a> {
    pub(super) file: &'a str,
    pub(super) header: &'a Header,
    pub(super) input: &'a mut dyn ReadSeek,
    taken: BTreeSet<String>,
    plain: bool,
}

impl<'a> Weights<'a> {
    pub(super) fn new(file: &'a str, header: &'a Header, input: &'a mut dyn ReadSeek) -> Self {
        Self {
            file,
            header,
            input,
            taken: BTreeSet::new(),
            plain: header.parameters() <= PLAIN_PARAMETERS_MAX,
        }
    }

    fn broken(&self, what: String) -> Error {
        Error::Broken {
            file: self.file.to_owned(),
            what,
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    /// The tensor as it is stored.
    pub(super) fn stored(&mut self, name: &str, dims: &[usize]) -> Result<Arc<QTensor>, Error> {
        let Some(info) = self.header.tensors.get(name) else {
            return Err(self.broken(format!("tensor `{name}` is missing")));
        };
        if info.dims != dims {
            return Err(self.broken(format!(
                "tensor `{name}` is {:?}, the metadata want {dims:?}",
                info.dims
            )));
        }
        let (Some((_, _, dtype)), Some(bytes)) = (info.kind.layout(), info.bytes) else {
            return Err(Error::TensorType {
                kind: info.kind.to_string(),
                tensor: name.to_owned(),
                works: TensorKind::works(),
            });
        };
        // The header's reader has seen that so many bytes are in the file.
        let mut data = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        self.input
            .seek(SeekFrom::Start(info.start))
            .and_then(|_| self.input.read_exact(&mut data))
            .map_err(|source| Error::Read {
                file: self.file.to_owned(),
                source,
            })?;
        self.taken.insert(name.to_owned());
        let tensor = ggml_file::qtensor_from_ggml(dtype, &data, dims.to_vec(), &Device::Cpu)?;
        Ok(Arc::new(tensor))
    }

    /// A matrix to multiply with.
    pub(super) fn matrix(&mut self, name: &str, rows: usize, row: usize) -> Result<QMatMul, Error> {
        let stored = self.stored(name, &[rows, row])?;
        self.multiplier(stored)
    }

    /// The matrix in the form in which it is multiplied with.
    pub(super) fn multiplier(&self, stored: Arc<QTensor>) -> Result<QMatMul, Error> {
        Ok(match self.plain {
            true => QMatMul::Tensor(stored.dequantize(&Device::Cpu)?),
            false => QMatMul::from_arc(stored)?,
        })
    }

    /// A vector of plain numbers.
    pub(super) fn vector(&mut self, name: &str, length: usize) -> Result<Tensor, Error> {
        Ok(self.stored(name, &[length])?.dequantize(&Device::Cpu)?)
    }

    /// A vector that not every model has.
    pub(super) fn vector_if(&mut self, name: &str, length: usize) -> Result<Option<Tensor>, Error> {
        match self.has(name) {
            true => self.vector(name, length).map(Some),
            false => Ok(None),
        }
    }

    /// A tensor that nobody took belongs to a computation that we do not do.
    pub(super) fn finish(self) -> Result<(), Error> {
        match self
            .header
            .tensors
            .keys()
            .find(|name| !self.taken.contains(*name))
        {
            None => Ok(()),
            Some(name) => Err(Error::Feature {
                what: format!("the tensor `{name}`"),
            }),
        }
    }
}
