use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};

use crate::network::to_vec;

/// The most output positions that are computed at once. Patches of so many positions stay in a core's cache, and a sum over
/// at most 512 of them has the same bits whatever the CPU's cache geometry.
const BLOCK_POSITIONS: usize = 512;

/// A convolution over a batch of images of layout `[channels, samples, height, width]`, as products of matrices: patches are
/// gathered block by block (`im2col`) and multiplied by burn. burn's own convolution copies whole batches between layouts and
/// computes the gradient of weights as a convolution over swapped axes: several times as slow on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Convolution {
    pub(crate) channels: usize,
    pub(crate) size: [usize; 2],
    pub(crate) out: usize,
    pub(crate) out_size: [usize; 2],
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

/// What a backward pass gives.
pub(crate) struct ConvolutionGradients {
    /// `[out, channels, kernel, kernel]`.
    pub(crate) weight: Vec<f32>,
    /// `[out]`.
    pub(crate) bias: Vec<f32>,
    /// As the input; none for the first layer, whose input needs no gradient.
    pub(crate) input: Option<Vec<f32>>,
}

impl Convolution {
    /// `[channels, samples, height, width]` → `[out, samples, out height, out width]`.
    pub(crate) fn forward(&self, weight: &[f32], bias: &[f32], input: &[f32], samples: usize) -> Vec<f32> {
        let weight = self.weight_matrix(weight);
        let positions = samples * self.out_size[0] * self.out_size[1];
        let mut output = vec![0.0; self.out * positions];
        for rows in self.blocks(samples) {
            let columns = rows.start * self.out_size[1]..rows.end * self.out_size[1];
            let patches = self.matrix(self.gather(input, samples, rows), columns.len());
            let block = to_vec(weight.clone().matmul(patches));
            for (channel, (values, bias)) in block.chunks_exact(columns.len()).zip(bias).enumerate() {
                let start = channel * positions + columns.start;
                for (to, value) in output[start..start + columns.len()].iter_mut().zip(values) {
                    *to = value + bias;
                }
            }
        }
        output
    }

    /// Gradients from the gradient of the output.
    pub(crate) fn backward(
        &self,
        weight: &[f32],
        input: &[f32],
        gradient: &[f32],
        samples: usize,
        wants_input: bool,
    ) -> ConvolutionGradients {
        let transposed = self.weight_matrix(weight).transpose();
        let positions = samples * self.out_size[0] * self.out_size[1];
        let mut result = ConvolutionGradients {
            weight: vec![0.0; weight.len()],
            bias: vec![0.0; self.out],
            input: wants_input.then(|| vec![0.0; input.len()]),
        };
        for rows in self.blocks(samples) {
            let columns = rows.start * self.out_size[1]..rows.end * self.out_size[1];
            let mut block = Vec::with_capacity(self.out * columns.len());
            for (channel, bias) in result.bias.iter_mut().enumerate() {
                let values = &gradient[channel * positions + columns.start..channel * positions + columns.end];
                *bias += values.iter().sum::<f32>();
                block.extend_from_slice(values);
            }
            let block = Tensor::<2>::from_data(TensorData::new(block, [self.out, columns.len()]), &Device::flex());
            let patches = self.matrix(self.gather(input, samples, rows.clone()), columns.len());
            let of_weight = to_vec(block.clone().matmul(patches.transpose()));
            result.weight.iter_mut().zip(of_weight).for_each(|(sum, value)| *sum += value);
            if let Some(of_input) = &mut result.input {
                self.scatter(&to_vec(transposed.clone().matmul(block)), of_input, samples, rows);
            }
        }
        result
    }

    fn patch(&self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    fn weight_matrix(&self, weight: &[f32]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(weight.to_vec(), [self.out, self.patch()]), &Device::flex())
    }

    fn matrix(&self, patches: Vec<f32>, columns: usize) -> Tensor<2> {
        Tensor::from_data(TensorData::new(patches, [self.patch(), columns]), &Device::flex())
    }

    /// The output rows of all samples, in blocks.
    fn blocks(&self, samples: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let rows = samples * self.out_size[0];
        let at_once = (BLOCK_POSITIONS / self.out_size[1]).max(1);
        (0..rows).step_by(at_once).map(move |start| start..(start + at_once).min(rows))
    }

    /// Calls `visit(patch row, column, input start, count)` for each run of output positions that a kernel's cell takes from
    /// one input row; with a stride of 1 the inputs of a run lie side by side. Positions in the padding are left out.
    fn runs(&self, samples: usize, rows: Range<usize>, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let [height, width] = self.size;
        let [out_height, out_width] = self.out_size;
        // The output columns whose input column lies in the image, for each kernel column.
        let inside = |kx: usize| {
            let first = self.padding.saturating_sub(kx).div_ceil(self.stride);
            let end = (width + self.padding).saturating_sub(kx).div_ceil(self.stride).min(out_width);
            first..end.max(first)
        };
        let inside: Vec<Range<usize>> = (0..self.kernel).map(inside).collect();
        for channel in 0..self.channels {
            for ky in 0..self.kernel {
                for (kx, inside) in inside.iter().enumerate().filter(|(_, inside)| !inside.is_empty()) {
                    let patch_row = (channel * self.kernel + ky) * self.kernel + kx;
                    for row in rows.clone() {
                        let (sample, y) = (row / out_height, row % out_height * self.stride + ky);
                        if y < self.padding || y - self.padding >= height {
                            continue;
                        }
                        let from = ((channel * samples + sample) * height + y - self.padding) * width;
                        let start = from + inside.start * self.stride + kx - self.padding;
                        visit(patch_row, (row - rows.start) * out_width + inside.start, start, inside.len());
                    }
                }
            }
        }
    }

    /// The patches under the kernel for some output rows: `[channels · kernel · kernel, positions]`.
    fn gather(&self, input: &[f32], samples: usize, rows: Range<usize>) -> Vec<f32> {
        let columns = rows.len() * self.out_size[1];
        let mut patches = vec![0.0; self.patch() * columns];
        self.runs(samples, rows, |patch_row, column, start, count| {
            let to = &mut patches[patch_row * columns + column..][..count];
            if self.stride == 1 {
                to.copy_from_slice(&input[start..start + count]);
            } else {
                to.iter_mut().zip(input[start..].iter().step_by(self.stride)).for_each(|(to, from)| *to = *from);
            }
        });
        patches
    }

    /// The reverse of [`Self::gather`]: adds each patch's values to where they came from.
    fn scatter(&self, patches: &[f32], output: &mut [f32], samples: usize, rows: Range<usize>) {
        let columns = rows.len() * self.out_size[1];
        self.runs(samples, rows, |patch_row, column, start, count| {
            let from = &patches[patch_row * columns + column..][..count];
            if self.stride == 1 {
                output[start..start + count].iter_mut().zip(from).for_each(|(to, from)| *to += from);
            } else {
                output[start..].iter_mut().step_by(self.stride).zip(from).for_each(|(to, from)| *to += from);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{module::conv2d, ops::ConvOptions};

    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1013) as f32 / 500.0 - 1.0).collect()
    }

    /// `[a, b, rest]` → `[b, a, rest]`.
    fn swapped(values: &[f32], a: usize, b: usize) -> Vec<f32> {
        let rest = values.len() / a / b;
        (0..b).flat_map(|j| (0..a).flat_map(move |i| values[(i * b + j) * rest..][..rest].to_vec())).collect()
    }

    fn close(ours: &[f32], burns: &[f32]) {
        assert_eq!(ours.len(), burns.len());
        for (ours, burns) in ours.iter().zip(burns) {
            assert!((ours - burns).abs() < 2e-3 * (1.0 + burns.abs()), "{ours} is not {burns}");
        }
    }

    #[test]
    fn convolutions_agree_with_burns_own_forward_and_backward() {
        for (channels, size, out, kernel, stride, padding, samples) in [
            (1, [28, 28], 4, 3, 1, 1, 3),
            (3, [9, 7], 5, 3, 2, 0, 4),
            (2, [8, 8], 3, 5, 3, 4, 2),
            (2, [6, 5], 3, 1, 1, 0, 70),
            (1, [4, 600], 2, 2, 1, 1, 2),
        ] {
            let out_size = size.map(|side: usize| (side + 2 * padding - kernel) / stride + 1);
            let conv = Convolution { channels, size, out, out_size, kernel, stride, padding };
            let weight = numbers(out * channels * kernel * kernel, 1);
            let (bias, input) = (numbers(out, 2), numbers(samples * channels * size[0] * size[1], 3));
            let gradient = numbers(samples * out * out_size[0] * out_size[1], 4);

            let device = Device::flex().autodiff();
            let tensor = |values: &[f32], shape: [usize; 4]| {
                Tensor::<4>::from_data(TensorData::new(values.to_vec(), shape), &device).require_grad()
            };
            let w = tensor(&weight, [out, channels, kernel, kernel]);
            let b = Tensor::<1>::from_data(TensorData::new(bias.clone(), [out]), &device).require_grad();
            let x = tensor(&input, [samples, channels, size[0], size[1]]);
            let options = ConvOptions::new([stride; 2], [padding; 2], [1, 1], 1);
            let y = conv2d(x.clone(), w.clone(), Some(b.clone()), options);
            let g = tensor(&gradient, [samples, out, out_size[0], out_size[1]]).detach();
            let mut gradients = (y.clone() * g).sum().backward();

            let ours = swapped(&input, samples, channels);
            close(&swapped(&conv.forward(&weight, &bias, &ours, samples), out, samples), &to_vec(y));
            let back = conv.backward(&weight, &ours, &swapped(&gradient, samples, out), samples, true);
            close(&back.weight, &to_vec(w.grad_remove(&mut gradients).unwrap()));
            close(&back.bias, &to_vec(b.grad_remove(&mut gradients).unwrap()));
            close(&swapped(&back.input.unwrap(), channels, samples), &to_vec(x.grad_remove(&mut gradients).unwrap()));
        }
    }
}
