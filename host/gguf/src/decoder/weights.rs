//! Reads tensors from a file, checks their shapes, and detects tensors that were not read.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use candle_core::quantized::{QTensor, ggml_file};
use candle_core::{Device, Tensor};

use super::super::Error;
use super::super::header::Header;
use super::super::tensor_type::TensorType;
use super::matrix::Matrix;

/// Models with up to this number of parameters are dequantized to f32 (16 MiB).
///
/// candle distributes every product of a quantized matrix over all cores and waits for them in a
/// busy loop. For a small model that takes longer than the computation, and it is extremely
/// slow when other programs use the cores as well: 16 instead of 2,000 tokens per second were
/// measured.
const DEQUANTIZED_PARAMETERS_MAX: u64 = 4 << 20;

/// A readable and seekable input.
pub(in super::super) trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// Reads the tensors of a file and records which ones were read.
pub(super) struct WeightReader<'a> {
    pub(super) file: &'a str,
    pub(super) header: &'a Header,
    pub(super) input: &'a mut dyn ReadSeek,
    read_tensors: BTreeSet<String>,
    dequantize: bool,
}

impl<'a> WeightReader<'a> {
    pub(super) fn new(file: &'a str, header: &'a Header, input: &'a mut dyn ReadSeek) -> Self {
        Self {
            file,
            header,
            input,
            read_tensors: BTreeSet::new(),
            dequantize: header.parameter_count() <= DEQUANTIZED_PARAMETERS_MAX,
        }
    }

    fn invalid_file(&self, problem: String) -> Error {
        Error::InvalidFile {
            file: self.file.to_owned(),
            problem,
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    /// Reads a tensor without converting it.
    ///
    /// # Errors
    /// Returns an error if the tensor is missing, has another shape or an unsupported type, or
    /// cannot be read.
    pub(super) fn quantized_tensor(
        &mut self,
        name: &str,
        shape: &[usize],
    ) -> Result<Arc<QTensor>, Error> {
        let Some(info) = self.header.tensors.get(name) else {
            return Err(self.invalid_file(format!("tensor `{name}` is missing")));
        };
        if info.shape != shape {
            return Err(self.invalid_file(format!(
                "tensor `{name}` has the shape {:?}, expected {shape:?}",
                info.shape
            )));
        }
        let (Some((_, _, dtype)), Some(bytes)) = (info.tensor_type.layout(), info.bytes) else {
            return Err(Error::UnsupportedTensorType {
                tensor_type: info.tensor_type.to_string(),
                tensor: name.to_owned(),
                supported: TensorType::supported_names(),
            });
        };
        // The header reader has checked that the file contains this number of bytes.
        let mut data = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        self.input
            .seek(SeekFrom::Start(info.offset))
            .and_then(|_| self.input.read_exact(&mut data))
            .map_err(|source| Error::Read {
                file: self.file.to_owned(),
                source,
            })?;
        self.read_tensors.insert(name.to_owned());
        let tensor = ggml_file::qtensor_from_ggml(dtype, &data, shape.to_vec(), &Device::Cpu)?;
        Ok(Arc::new(tensor))
    }

    /// Reads a matrix for multiplication.
    pub(super) fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Matrix, Error> {
        let tensor = self.quantized_tensor(name, &[rows, columns])?;
        self.to_matrix(tensor)
    }

    /// Converts a tensor to the form that is used for multiplication: dequantized for small
    /// models.
    pub(super) fn to_matrix(&self, tensor: Arc<QTensor>) -> Result<Matrix, Error> {
        Ok(Matrix::new(tensor, self.dequantize)?)
    }

    /// Reads a vector and dequantizes it to f32.
    pub(super) fn vector(&mut self, name: &str, length: usize) -> Result<Tensor, Error> {
        Ok(self
            .quantized_tensor(name, &[length])?
            .dequantize(&Device::Cpu)?)
    }

    /// Reads a vector if the file contains it.
    pub(super) fn optional_vector(
        &mut self,
        name: &str,
        length: usize,
    ) -> Result<Option<Tensor>, Error> {
        match self.has(name) {
            true => self.vector(name, length).map(Some),
            false => Ok(None),
        }
    }

    /// Returns an error if a tensor was not read, because it belongs to a computation that is
    /// not implemented.
    pub(super) fn check_all_read(self) -> Result<(), Error> {
        match self
            .header
            .tensors
            .keys()
            .find(|name| !self.read_tensors.contains(*name))
        {
            None => Ok(()),
            Some(name) => Err(Error::UnsupportedFeature {
                feature: format!("the tensor `{name}`"),
            }),
        }
    }
}
